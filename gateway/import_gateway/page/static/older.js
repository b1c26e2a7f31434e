// Imports that ended before those of the overview: read page by page when somebody asks for them.

import { api } from "./api.js";
import { toJobs } from "./contract.js";
import { byId, setHidden, setText } from "./drawing.js";
import { notify } from "./notices.js";
import { isFinal, sentence } from "./words.js";

// A page of the gateway may be empty and not be the last: so many are read for one click.
const MOST_PAGES = 5;
const ENOUGH = 50;

export class Older {
  #store;
  #filter = { company: "" };
  #next = "";
  #ended = false;
  #busy = false;

  constructor(store) {
    this.#store = store;
    byId("older").addEventListener("click", () => this.#more());
  }

  // Another company is another list; what was read of the one before is forgotten.
  setCompany(company) {
    if (company === this.#filter.company) return;
    this.#filter = { company };
    this.reset();
  }

  reset() {
    this.#next = "";
    this.#ended = false;
    this.#store.clearOlder();
    setText(byId("older"), "Load older imports");
    setHidden(byId("older"), false);
  }

  async #more() {
    if (this.#busy || this.#ended) return;
    this.#busy = true;
    byId("older").setAttribute("aria-busy", "true");
    const filter = this.#filter;
    try {
      let found = 0;
      for (let pages = 0; pages < MOST_PAGES && found < ENOUGH && !this.#ended; pages++) {
        const page = toJobs(await api.imports({ ...(filter.company ? filter : {}), ...(this.#next ? { cursor: this.#next } : {}) }));
        if (filter !== this.#filter) return;
        found += this.#store.addOlder(page.items.filter(isFinal));
        this.#next = page.next;
        this.#ended = page.next === "";
      }
      setText(byId("older"), this.#ended ? "These are all" : "Load older imports");
    } catch (problem) {
      notify(`The older imports can’t be read. ${sentence(problem.message)}`, "bad");
    } finally {
      this.#busy = false;
      byId("older").removeAttribute("aria-busy");
    }
  }
}
