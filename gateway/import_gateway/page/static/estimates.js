// Places and times of jobs that wait: they change with every job that ends, so the event stream leaves them out.
// They are asked for now and then, for the few rows that somebody sees.

import { api } from "./api.js";
import { toJob } from "./contract.js";
import { isFinal } from "./words.js";

const ROUND_MILLISECONDS = 10_000;
const FIRST_MILLISECONDS = 500;
const MOST_ASKED = 10;

export class Estimates {
  #store;
  #wanted;

  // `wanted()` names the jobs that are seen now.
  constructor(store, wanted) {
    this.#store = store;
    this.#wanted = wanted;
  }

  start() {
    setTimeout(() => this.#round(), FIRST_MILLISECONDS);
  }

  async #round() {
    let next = ROUND_MILLISECONDS;
    if (this.#store.me && !document.hidden) {
      const jobs = this.#wanted().filter((job) => !isFinal(job));
      if (!this.#store.known) next = FIRST_MILLISECONDS;
      await Promise.all(jobs.slice(0, MOST_ASKED).map((job) => this.#ask(job)));
    } else next = FIRST_MILLISECONDS * 2;
    setTimeout(() => this.#round(), next);
  }

  // A refusal is no news: the row just shows no estimate, and the stream says what is wrong.
  async #ask(job) {
    try {
      const { place, placeIsAtLeast, untilDue, untilStart, untilDone } = toJob(await api.one(job));
      this.#store.setEstimate(job.id, { place, placeIsAtLeast, untilDue, untilStart, untilDone });
    } catch {
      this.#store.setEstimate(job.id, null);
    }
  }
}
