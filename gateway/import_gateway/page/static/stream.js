// The event stream, by fetch: unlike EventSource it shows refusals, and that heartbeats stopped coming.

import { Problem, problemOf } from "./api.js";

// Heartbeats that may be missing before the connection counts as dead, though nobody ended it.
const HEARTBEATS_MISSED = 3;
const FIRST_WAIT_MILLISECONDS = 500;
const LONGEST_WAIT_MILLISECONDS = 15_000;
const HIDDEN_MILLISECONDS = 60_000;

// Splits text into events of the format that the HTML standard names text/event-stream.
export class EventParser {
  #rest = "";
  #event = { name: "message", data: [] };
  lastId = "";

  *feed(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (this.#event.data.length) yield { name: this.#event.name, data: this.#event.data.join("\n") };
        this.#event = { name: "message", data: [] };
      } else this.#field(line);
    }
  }

  #field(line) {
    const [, name, value] = /^([^:]*):? ?([^]*)$/.exec(line);
    if (name === "event") this.#event.name = value;
    if (name === "data") this.#event.data.push(value);
    if (name === "id" && !value.includes("\0")) this.lastId = value;
  }
}

// Holds a stream open until `stop`; calls `onOpen`, `onEvent(name, value)`, `onLost(seconds, problem)` and,
// when the session ended, `onRefused(problem)`. A tab out of sight gives its connection back after a while,
// as browsers allow few to one host.
export class Stream {
  #path;
  #silence;
  #on;
  #abort = null;
  #stopped = true;
  #failures = 0;
  #lastId = "";
  #timer = 0;
  #hidden = 0;

  constructor(path, heartbeatSeconds, handlers) {
    this.#path = path;
    this.#silence = heartbeatSeconds * 1000 * HEARTBEATS_MISSED;
    this.#on = handlers;
    document.addEventListener("visibilitychange", () => this.#visibility());
    window.addEventListener("online", () => this.#hurry());
  }

  start() {
    this.#stopped = false;
    this.#failures = 0;
    this.#run();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#lastId = "";
    this.#abort?.abort();
  }

  async #run() {
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    let problem = null;
    try {
      await this.#read(abort);
    } catch (error) {
      problem = error instanceof Problem ? error : null;
    }
    if (this.#stopped || this.#abort !== abort) return;
    if (problem && (problem.status === 401 || problem.status === 403)) {
      this.#stopped = true;
      this.#on.onRefused(problem);
      return;
    }
    this.#retry(problem);
  }

  #retry(problem) {
    const longest = Math.min(LONGEST_WAIT_MILLISECONDS, FIRST_WAIT_MILLISECONDS * 2 ** this.#failures);
    this.#failures += 1;
    const asked = (problem?.retryAfter ?? 0) * 1000;
    const wait = Math.max(asked, longest * (0.5 + Math.random() / 2));
    this.#on.onLost(wait / 1000, problem);
    this.#timer = setTimeout(() => this.#run(), wait);
  }

  async #read(abort) {
    let silence = setTimeout(() => abort.abort(), this.#silence);
    try {
      const headers = { Accept: "text/event-stream" };
      if (this.#lastId) headers["Last-Event-ID"] = this.#lastId;
      const response = await fetch(this.#path, { headers, cache: "no-store", redirect: "error", signal: abort.signal });
      if (!response.ok) throw await problemOf(response);
      this.#failures = 0;
      this.#on.onOpen();
      const parser = new EventParser();
      parser.lastId = this.#lastId;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort(), this.#silence);
        for (const event of parser.feed(value)) this.#tell(event);
        this.#lastId = parser.lastId;
      }
    } finally {
      clearTimeout(silence);
    }
  }

  #tell(event) {
    let value;
    try {
      value = JSON.parse(event.data);
    } catch {
      return; // Not one of ours: a newer gateway may send other things.
    }
    this.#on.onEvent(event.name, value);
  }

  #hurry() {
    if (this.#stopped || this.#failures === 0) return;
    clearTimeout(this.#timer);
    this.#run();
  }

  #visibility() {
    clearTimeout(this.#hidden);
    if (document.hidden) {
      this.#hidden = setTimeout(() => this.#suspend(), HIDDEN_MILLISECONDS);
    } else if (!this.#stopped && this.#abort === null) this.#run();
    else this.#hurry();
  }

  #suspend() {
    clearTimeout(this.#timer);
    const abort = this.#abort;
    this.#abort = null;
    abort?.abort();
  }
}
