// The drawer with one job: its counters, and its errors with reasons. Kept current while it is open.

import { offered } from "./actions.js";
import { api } from "./api.js";
import { toErrors } from "./contract.js";
import { byId, drawProgress, fromTemplate, setAttribute, setHidden, setText } from "./drawing.js";
import { clock, count, note, plural } from "./words.js";

const LABELS = { retry: "Retry", "retry-items": "Retry failed items only", cancel: "Cancel the import" };

export class Details {
  #store;
  #onAction;
  #key = null;
  #drawn = null;
  #errorsAt = "";
  #next = "";
  #opener = null;

  constructor(store, onAction) {
    this.#store = store;
    this.#onAction = onAction;
    const dialog = byId("details");
    byId("details-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => this.#closed());
    byId("errors-more").addEventListener("click", () => this.#load(true));
    for (const action of ["retry", "retry-items", "cancel"]) byId("details-actions").append(this.#button(action));
  }

  #button(action) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.action = action;
    button.textContent = LABELS[action];
    button.addEventListener("click", () => this.#onAction(action, this.#store.find(this.#key) ?? this.#drawn));
    return button;
  }

  open(job) {
    this.#key = job.id;
    this.#drawn = null;
    this.#errorsAt = "";
    this.#opener = document.activeElement;
    byId("errors-list").replaceChildren();
    byId("errors-reasons").replaceChildren();
    setText(byId("errors-summary"), "");
    this.draw();
    byId("details").showModal();
    byId("details-title").focus();
  }

  close() {
    if (byId("details").open) byId("details").close();
  }

  #closed() {
    this.#key = null;
    if (this.#opener?.isConnected) this.#opener.focus({ preventScroll: true });
  }

  draw() {
    if (this.#key === null) return;
    const job = this.#store.find(this.#key);
    if (!job) {
      setText(byId("details-note"), "It is gone.");
      return;
    }
    setText(byId("details-note"), job.phase === "Failed" ? "" : note(this.#store.shown(job)));
    if (job === this.#drawn) return;
    this.#drawn = job;
    this.#fill(job);
    const errors = `${job.failed} ${job.imagesFailed} ${job.phase}`;
    if (errors !== this.#errorsAt) {
      this.#errorsAt = errors;
      this.#load(false);
    }
  }

  // The job that is shown, if any.
  shown() {
    const job = this.#store.find(this.#key);
    return job ? [job] : [];
  }

  #fill(job) {
    setText(byId("details-name"), job.name);
    setText(byId("details-company"), job.company);
    setText(byId("details-provider"), job.provider);
    setText(byId("details-badge"), job.phase);
    setAttribute(byId("details-badge"), "data-phase", job.phase);
    setText(byId("details-message"), [job.phase === "Failed" ? job.reason : "", job.message].filter(Boolean).join(": "));
    drawProgress(byId("details-progress"), job);
    const rows = [
      ["Products", job.total === null ? count(job.done) : `${count(job.done)} of ${count(job.total)}`],
      ["Written", count(job.imported)],
      ["Unchanged", count(job.unchanged)],
      ["Products failed", count(job.failed)],
      ["Images", `${count(job.images)} of ${count(job.imagesTotal)}`],
      ["Images failed", count(job.imagesFailed)],
      ["Tries", count(job.attempts)],
      ["Queued", clock(job.queuedAt)],
      ["Started", clock(job.startedAt)],
      ["Finished", clock(job.completedAt)],
    ];
    byId("details-counters").replaceChildren(...rows.map(counter));
    const may = offered(job, this.#store.me.may);
    for (const button of byId("details-actions").children) setHidden(button, !may[button.dataset.action]);
    setHidden(byId("details-actions"), !Object.values(may).some(Boolean));
  }

  async #load(more) {
    const key = this.#key;
    const job = this.#store.find(key);
    if (!job) return;
    let page;
    try {
      page = toErrors(await api.errors(job, more ? this.#next : ""));
    } catch (problem) {
      setText(byId("errors-summary"), `The errors can’t be shown. ${problem.message}`);
      return;
    }
    if (this.#key !== key) return;
    this.#next = page.next;
    const list = byId("errors-list");
    if (!more) list.replaceChildren();
    list.append(...page.items.map(errorRow));
    setHidden(byId("errors-more"), !page.next);
    if (more) return;
    setText(byId("errors-summary"), page.total ? `${plural(page.total, "item")} failed` : page.items.length ? "" : "No product or image failed.");
    byId("errors-reasons").replaceChildren(...page.reasons.map(reasonRow));
  }
}

function counter([name, value]) {
  const row = document.createElement("div");
  row.append(document.createElement("dt"), document.createElement("dd"));
  row.children[0].textContent = name;
  row.children[1].textContent = value;
  return row;
}

function reasonRow({ stage, reason, count: number }) {
  const row = document.createElement("li");
  row.textContent = `${count(number)} × ${reason} (${stage})`;
  return row;
}

function errorRow(error) {
  const row = fromTemplate("error-template");
  setText(row.querySelector(".error-stage"), error.stage);
  setText(row.querySelector(".error-reason"), error.reason);
  setText(row.querySelector(".error-item"), error.item);
  setText(row.querySelector(".error-message"), error.message);
  setText(row.querySelector(".error-url"), error.url);
  setHidden(row.querySelector(".error-url"), !error.url);
  return row;
}
