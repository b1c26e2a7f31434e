// The cards at the top: each queue's health and whether it hands out jobs, and the workers.

import { byId, fromTemplate, setAttribute, setHidden, setText } from "./drawing.js";
import { accountName, ago, count, levelInWords, plural } from "./words.js";

const MOST_WORKERS_DRAWN = 60;
const SCALE_MARGIN = 1.15;

export class Overview {
  #store;
  #cards = new Map();

  constructor(store, onAction) {
    this.#store = store;
    byId("queues").addEventListener("click", (event) => {
      const button = event.target.closest("button[data-action]");
      if (button) onAction(button.dataset.action, button.closest(".queue-card").dataset.queue);
    });
  }

  draw() {
    const { queues, workers, me } = this.#store;
    for (const [id, card] of this.#cards) {
      if (queues.has(id)) continue;
      card.remove();
      this.#cards.delete(id);
    }
    for (const queue of queues.values()) drawQueue(this.#card(queue.id), queue, me.may);
    setHidden(byId("no-queue"), queues.size > 0);
    drawWorkers([...workers.values()], [...queues.values()]);
  }

  #card(id) {
    let card = this.#cards.get(id);
    if (!card) {
      card = fromTemplate("queue-template");
      card.dataset.queue = id;
      const title = card.querySelector("h3");
      title.id = `queue-${this.#cards.size}-${Date.now()}`;
      card.setAttribute("aria-labelledby", title.id);
      setText(card.querySelector(".queue-name"), id);
      this.#cards.set(id, card);
      byId("queues").append(card);
    }
    return card;
  }
}

function drawQueue(card, queue, may) {
  const part = (name) => card.querySelector(name);
  setText(part(".level"), levelInWords(queue.level));
  setAttribute(part(".level"), "data-level", queue.level);
  setText(part(".depth"), depthInWords(queue));
  setText(part(".due"), count(queue.due));
  setText(part(".running"), count(queue.running));
  drawScale(part(".scale"), part(".thresholds"), queue);
  setText(part(".dispatch"), queue.paused ? "Paused" : "Running");
  setAttribute(part(".dispatch"), "data-good", !queue.paused);
  setHidden(part(".intake-line"), queue.intakeOpen === null);
  setText(part(".intake"), queue.intakeOpen === false ? "Stopped" : "Open");
  setAttribute(part(".intake"), "data-good", queue.intakeOpen !== false);
  setText(part(".flow-note"), flowNote(queue));
  for (const [action, wanted] of [["pause", !queue.paused], ["resume", queue.paused]]) {
    const button = part(`[data-action="${action}"]`);
    setHidden(button, !wanted);
    button.disabled = !may.pause;
  }
  setHidden(part(".pause-denied"), may.pause);
}

function depthInWords({ depth, depthIsAtLeast }) {
  if (depth === null) return "unknown";
  return depthIsAtLeast ? `over ${count(depth - 1)}` : count(depth);
}

function drawScale(scale, legend, queue) {
  const known = queue.overloadAbove !== null;
  setHidden(scale, !known);
  setHidden(legend, !known);
  if (!known) return;
  const top = Math.round(queue.overloadAbove * SCALE_MARGIN);
  const share = (value) => `${(Math.min(1, (value ?? 0) / top) * 100).toFixed(2)}%`;
  setAttribute(scale, "data-level", queue.level);
  setAttribute(scale, "aria-valuemax", top);
  setAttribute(scale, "aria-valuenow", Math.min(top, queue.depth ?? 0));
  setAttribute(scale, "aria-valuetext", `${depthInWords(queue)} jobs, ${levelInWords(queue.level)}`);
  scale.querySelector(".scale-fill").style.width = share(queue.depth);
  for (const mark of scale.querySelectorAll(".scale-mark")) mark.style.left = share(queue[mark.dataset.mark]);
  setText(legend, `degraded above ${count(queue.degradedAbove)}, critical ${count(queue.criticalAbove)}, overload ${count(queue.overloadAbove)}`);
}

function flowNote(queue) {
  const parts = [];
  if (queue.paused) {
    const who = [`by ${queue.pausedBy ? accountName(queue.pausedBy) : "the operator itself"}`, queue.pausedSince ? ago(queue.pausedSince) : ""].filter(Boolean).join(", ");
    parts.push(`Paused ${who}`.trim() + (queue.pausedReason ? `: ${queue.pausedReason}` : ""));
  }
  if (queue.intakeOpen === false) parts.push(queue.intakeReason || "New imports are refused until the queue is shorter");
  return parts.join(". ");
}

function drawWorkers(workers, queues) {
  const ready = workers.filter((worker) => worker.state === "ready");
  const busy = ready.filter((worker) => worker.jobs > 0).length;
  const wanted = queues.map((queue) => queue.workersWanted).filter((value) => value !== null);
  const desired = wanted.length ? wanted.reduce((sum, value) => sum + value, 0) : null;
  setText(byId("workers-busy"), count(busy));
  setText(byId("workers-ready"), count(ready.length));
  setText(byId("workers-desired"), count(desired));
  setHidden(byId("workers-desired").parentElement, desired === null);
  const jobs = workers.reduce((sum, worker) => sum + worker.jobs, 0);
  const slots = ready.reduce((sum, worker) => sum + worker.concurrency, 0);
  const leaving = workers.length - ready.length;
  const parts = [workers.length ? `${plural(jobs, "job")} in ${plural(slots, "slot")}` : "No worker has been seen within the last minute"];
  if (leaving) parts.push(`${count(leaving)} finishing before ${leaving === 1 ? "it goes" : "they go"}`);
  if (desired !== null && desired > ready.length) parts.push(`${count(desired - ready.length)} on the way`);
  setText(byId("workers-note"), parts.join(", "));
  drawSlots(workers.slice(0, MOST_WORKERS_DRAWN));
}

// A small column for each worker, filled with the jobs it has; the sentence below says the same.
function drawSlots(workers) {
  const box = byId("slots");
  while (box.children.length > workers.length) box.lastElementChild.remove();
  while (box.children.length < workers.length) {
    const column = document.createElement("span");
    column.className = "slot";
    column.append(document.createElement("span"));
    box.append(column);
  }
  workers.forEach((worker, index) => {
    const column = box.children[index];
    const height = `${worker.concurrency ? Math.min(100, (worker.jobs / worker.concurrency) * 100) : 0}%`;
    if (column.firstElementChild.style.height !== height) column.firstElementChild.style.height = height;
    setAttribute(column, "data-state", worker.state);
    setAttribute(column, "title", `${worker.pod}: ${worker.jobs} of ${worker.concurrency}, ${worker.state}`);
  });
}
