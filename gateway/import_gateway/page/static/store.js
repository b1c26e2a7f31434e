// What the page knows. Changes are gathered: however many events come, it is drawn a few times a second.

import { groupOf } from "./words.js";

const DRAW_MILLISECONDS = 200;

export class Store {
  jobs = new Map();
  queues = new Map();
  workers = new Map();
  estimates = new Map();
  #older = new Map();
  me = null;
  known = false;
  #draw;
  #changed;
  #timer = 0;

  // `draw()` is called after changes; `changed(job)` for each job that moved from one group to another.
  constructor(draw, changed) {
    this.#draw = draw;
    this.#changed = changed;
  }

  // Everything anew: what is not in it is gone.
  replace({ jobs, queues, workers }) {
    this.jobs = this.#compared(jobs);
    this.queues = byId(queues);
    this.workers = byId(workers);
    this.known = true;
    this.touch();
  }

  change({ jobs, queues, workers, gone }) {
    for (const [id, job] of this.#compared(jobs)) this.jobs.set(id, job);
    for (const queue of queues) this.queues.set(queue.id, queue);
    for (const worker of workers) this.workers.set(worker.id, worker);
    for (const id of gone.job) {
      this.jobs.delete(id);
      this.estimates.delete(id);
    }
    for (const id of gone.queue) this.queues.delete(id);
    for (const id of gone.worker) this.workers.delete(id);
    this.touch();
  }

  setEstimate(id, estimate) {
    if (estimate && this.jobs.has(id)) this.estimates.set(id, estimate);
    else this.estimates.delete(id);
    this.touch();
  }

  // Every job that is known, each once: what the stream says counts.
  *all() {
    yield* this.jobs.values();
    for (const [id, job] of this.#older) if (!this.jobs.has(id)) yield job;
  }

  find(id) {
    return this.jobs.get(id) ?? this.#older.get(id);
  }

  // Returns how many of them were not known before.
  addOlder(jobs) {
    const added = jobs.filter((job) => !this.find(job.id));
    for (const job of added) this.#older.set(job.id, job);
    this.touch();
    return added.length;
  }

  clearOlder() {
    if (this.#older.size === 0) return;
    this.#older = new Map();
    this.touch();
  }

  // A job as it is shown: with the last estimate where its own state has none.
  shown(job) {
    const estimate = this.estimates.get(job.id);
    return estimate && job.place === null && job.untilDone === null ? { ...job, ...estimate } : job;
  }

  clear() {
    this.#older = new Map();
    this.jobs = new Map();
    this.queues = new Map();
    this.workers = new Map();
    this.estimates = new Map();
    this.me = null;
    this.known = false;
  }

  touch() {
    this.#timer ||= setTimeout(() => requestAnimationFrame(() => this.#flush()), DRAW_MILLISECONDS);
  }

  #flush() {
    this.#timer = 0;
    if (this.me && this.known) this.#draw();
  }

  #compared(jobs) {
    for (const job of jobs) {
      const before = this.jobs.get(job.id);
      if (before && groupOf(before) !== groupOf(job)) this.#changed(job);
    }
    return byId(jobs);
  }
}

function byId(items) {
  return new Map(items.map((item) => [item.id, item]));
}
