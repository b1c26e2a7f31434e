// The list of jobs in groups. Rows are kept and only what differs is written, so focus and selection stay.

import { offered } from "./actions.js";
import { byId, drawProgress, fromTemplate, moveBefore, setAttribute, setHidden, setText } from "./drawing.js";
import { GROUPS, atMost, count, groupOf, note, plural } from "./words.js";

const FIRST = { running: 30, failed: 10, waiting: 10, finished: 10 };
const STEP = 50;
// What the group's title says already.
const NO_BADGE = ["Running", "Queued", "Failed"];

const ORDERS = {
  running: (a, b) => compare(a.startedAt, b.startedAt),
  waiting: (a, b) => compare(a.queuedAt, b.queuedAt),
  failed: (a, b) => compare(b.completedAt, a.completedAt),
  finished: (a, b) => compare(b.completedAt, a.completedAt),
};

function compare(one, other) {
  return (one ?? "") < (other ?? "") ? -1 : (one ?? "") > (other ?? "") ? 1 : 0;
}

export class JobList {
  #store;
  #rows = new Map();
  #groups = new Map();
  #drawnBy = new WeakMap();
  filter = { name: "", company: "", phase: "" };

  constructor(store, onAction) {
    this.#store = store;
    for (const group of GROUPS) this.#addGroup(group);
    byId("groups").addEventListener("click", (event) => {
      const button = event.target.closest("button[data-action]");
      if (!button) return;
      if (button.dataset.action === "more") this.#more(button.closest(".group").dataset.group);
      else onAction(button.dataset.action, this.#store.find(button.closest(".job").dataset.id));
    });
  }

  #addGroup({ id, title, empty }) {
    const element = fromTemplate("group-template");
    element.dataset.group = id;
    const heading = element.querySelector("h3");
    heading.id = `group-${id}`;
    element.setAttribute("aria-labelledby", heading.id);
    setText(element.querySelector(".group-title"), title);
    setText(element.querySelector(".empty"), empty);
    byId("groups").append(element);
    this.#groups.set(id, { element, limit: FIRST[id], list: element.querySelector(".jobs"), empty });
  }

  #more(id) {
    const group = this.#groups.get(id);
    const first = group.list.children.length;
    group.limit += STEP;
    this.draw();
    group.list.children[first]?.querySelector(".job-name").focus();
  }

  draw() {
    const now = Date.now();
    const sorted = new Map(GROUPS.map(({ id }) => [id, []]));
    for (const job of this.#store.all()) if (this.#matches(job)) sorted.get(groupOf(job)).push(job);
    const kept = new Set();
    for (const [id, jobs] of sorted) this.#drawGroup(id, jobs.sort(ORDERS[id]), kept, now);
    this.#drawCounts(sorted);
    for (const [key, row] of this.#rows) {
      if (kept.has(key)) continue;
      row.remove();
      this.#rows.delete(key);
    }
  }

  #matches(job) {
    const { name, company } = this.filter;
    return job.name.toLowerCase().includes(name) && job.company.toLowerCase().includes(company);
  }

  #drawGroup(id, jobs, kept, now) {
    const group = this.#groups.get(id);
    setHidden(group.element, this.filter.phase !== "" && this.filter.phase !== id);
    setText(group.element.querySelector(".count"), count(jobs.length));
    const filtered = this.filter.name || this.filter.company;
    setText(group.element.querySelector(".empty"), filtered ? "None matches the filter." : group.empty);
    setHidden(group.element.querySelector(".empty"), jobs.length > 0);
    const shown = group.element.hidden ? [] : jobs.slice(0, group.limit);
    let place = group.list.firstElementChild;
    for (const job of shown) {
      kept.add(job.id);
      const row = this.#row(job, now);
      if (row === place) place = place.nextElementSibling;
      else moveBefore(group.list, row, place);
    }
    const rest = jobs.length - shown.length;
    const more = group.element.querySelector(".more");
    setHidden(more, rest === 0);
    setText(more, `Show ${Math.min(STEP, rest)} more of ${count(jobs.length)}`);
  }

  // The waiting jobs whose rows are in sight of somebody.
  waitingShown() {
    return [...this.#groups.get("waiting").list.children].map((row) => this.#store.jobs.get(row.dataset.id)).filter(Boolean);
  }

  #drawCounts(sorted) {
    let all = 0;
    for (const [id, jobs] of sorted) {
      all += jobs.length;
      setText(document.querySelector(`[data-count="${id}"]`), count(jobs.length));
    }
    setText(document.querySelector('[data-count=""]'), count(all));
  }

  #row(job, now) {
    let row = this.#rows.get(job.id);
    if (!row) {
      row = fromTemplate("job-template");
      row.dataset.id = job.id;
      this.#rows.set(job.id, row);
    }
    setText(row.querySelector(".job-note"), note(this.#store.shown(job), now));
    if (this.#drawnBy.get(row) !== job) this.#fill(row, job);
    this.#drawnBy.set(row, job);
    return row;
  }

  #fill(row, job) {
    const part = (name) => row.querySelector(name);
    setText(part(".job-name bdi"), job.name);
    setText(part(".job-company"), job.company);
    setText(part(".job-provider"), job.provider);
    setText(part(".badge"), job.phase);
    setAttribute(part(".badge"), "data-phase", job.phase);
    setHidden(part(".badge"), NO_BADGE.includes(job.phase));
    drawProgress(part(".progress"), job);
    setText(part(".job-percent"), `${job.percent} %`);
    setText(part(".job-products"), job.total === null ? (job.done ? plural(job.done, "product") : "") : `${count(job.done)} / ${count(job.total)} products`);
    setText(part(".job-images"), job.imagesTotal ? plural(job.images, "image") : "");
    setText(part(".job-failed"), job.failed + job.imagesFailed ? `${count(job.failed + job.imagesFailed)} failed` : "");
    setHidden(part(".job-progress"), job.phase !== "Running" && job.total === null && job.done === 0);
    const letters = part(".job-letters");
    setText(letters, job.deadLetters ? atMost(job.deadLetters, "dead letter") : "");
    setHidden(letters, !job.deadLetters);
    letters.href = `/dead-letters?${new URLSearchParams({ job: job.id })}`;
    setAttribute(letters, "aria-label", `${letters.textContent} of ${job.name}`);
    const may = offered(job, this.#store.me.may);
    for (const action of ["retry", "cancel"]) {
      const button = part(`[data-action="${action}"]`);
      setHidden(button, !may[action]);
      setAttribute(button, "aria-label", `${action === "retry" ? "Retry" : "Cancel"} ${job.name}`);
    }
  }
}
