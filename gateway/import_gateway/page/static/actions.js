// What a person may do to a job or to the queue, with confirmation and an answer that can be seen.

import { api } from "./api.js";
import { confirm } from "./confirm.js";
import { notify } from "./notices.js";
import { isFinal, sentence } from "./words.js";

export function offered(job, may) {
  const again = may.retry && isFinal(job);
  return { retry: again, "retry-items": again && job.failed + job.imagesFailed > 0, cancel: may.cancel && !isFinal(job) };
}

export class Actions {
  #busy = new Set();

  async cancel(job) {
    const running = job.phase === "Running";
    const { yes } = await confirm({
      title: `Cancel ${job.name}?`,
      text: running
        ? "Its ImportJob is deleted and its worker stops at once. Products that are already imported stay."
        : "Its ImportJob is deleted; it leaves the queue and does not start.",
      yes: "Cancel the import",
      no: "Keep it",
    });
    if (yes) await this.#act(`cancel ${job.id}`, () => api.cancel(job), `${job.name} is being cancelled`, `Could not cancel ${job.name}`);
  }

  async retry(job) {
    if (job.phase === "Succeeded") {
      const { yes } = await confirm({
        title: `Import ${job.name} again?`,
        text: "It succeeded. The whole catalogue is read again; what has not changed is not written.",
        yes: "Import again",
        no: "Leave it",
        danger: false,
      });
      if (!yes) return;
    }
    await this.#act(`retry ${job.id}`, () => api.retry(job), `${job.name} will run again`, `Could not retry ${job.name}`);
  }

  async retryItems(job) {
    await this.#act(
      `retry ${job.id}`,
      () => api.retry(job, { itemsOnly: true }),
      `The failed items of ${job.name} will be imported again`,
      `Could not retry the failed items of ${job.name}`,
    );
  }

  async pause(queue) {
    const { yes, reason } = await confirm({
      title: "Pause dispatch?",
      text: `No further job of ${queue} starts until somebody resumes. Jobs that run go on, and new ones are still taken.`,
      yes: "Pause dispatch",
      no: "Leave it running",
      askReason: true,
    });
    if (yes) await this.#act(`queue ${queue}`, () => api.pause(queue, reason), "Dispatch is paused", "Could not pause");
  }

  async resume(queue) {
    await this.#act(`queue ${queue}`, () => api.resume(queue), "Dispatch goes on", "Could not resume");
  }

  async #act(key, send, done, failed) {
    if (this.#busy.has(key)) return;
    this.#busy.add(key);
    try {
      await send();
      notify(done);
    } catch (problem) {
      const later = problem.retryAfter ? ` Try again in ${problem.retryAfter} s.` : "";
      notify(`${sentence(failed)} ${sentence(problem.message)}${later}`, "bad");
    } finally {
      this.#busy.delete(key);
    }
  }
}
