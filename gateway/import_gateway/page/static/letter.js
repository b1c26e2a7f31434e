// The drawer with one dead letter: what failed, what to do about it, the product and its steps.

import { api } from "./api.js";
import { toLetter } from "./contract.js";
import { byId, fromTemplate, setHidden, setText } from "./drawing.js";
import { ago, clock, count, plural, sentence } from "./words.js";

// The step that stands for the import itself.
export const IMPORT = "import";

export function howItDied(letter) {
  if (!letter.retryable) return "invalid";
  return letter.step === IMPORT ? "given up by its import" : `after ${plural(letter.attempts, "try", "tries")}`;
}

export function reasonInWords(reason) {
  return reason || "No reason known";
}

export function nameOf(letter) {
  return letter.title || letter.item || letter.product;
}

export class LetterDetails {
  #letter = null;
  #opener = null;

  constructor(onAction) {
    const dialog = byId("letter");
    byId("letter-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => this.#closed());
    byId("letter-retry").addEventListener("click", () => this.#letter && onAction("retry", this.#letter));
    byId("letter-discard").addEventListener("click", () => this.#letter && onAction("discard", this.#letter));
  }

  async open(letter, may) {
    this.#letter = letter;
    this.#opener = document.activeElement;
    this.#fill(letter);
    setText(byId("letter-field"), "…");
    for (const id of ["letter-fix", "letter-problem"]) setText(byId(id), "");
    for (const id of ["letter-facts", "letter-steps"]) byId(id).replaceChildren();
    setHidden(byId("letter-gone"), true);
    setHidden(byId("letter-retry"), !may.retry);
    setHidden(byId("letter-discard"), !may.discard);
    setHidden(byId("letter-actions"), !may.retry && !may.discard);
    byId("letter").showModal();
    byId("letter-title").focus();
    try {
      const found = toLetter(await api.deadLetter(letter.id));
      if (this.#letter === letter) this.#more(found);
    } catch (problem) {
      if (this.#letter === letter) this.failed(problem);
    }
  }

  failed(problem) {
    setText(byId("letter-problem"), sentence(problem.message));
  }

  close() {
    if (byId("letter").open) byId("letter").close();
  }

  #closed() {
    this.#letter = null;
    if (this.#opener?.isConnected) this.#opener.focus({ preventScroll: true });
  }

  #fill(letter) {
    setText(byId("letter-name"), nameOf(letter));
    setText(byId("letter-company"), letter.company);
    setText(byId("letter-item"), letter.item || letter.product);
    setText(byId("letter-reason"), reasonInWords(letter.reason));
    setText(byId("letter-tries"), `${letter.step}, ${howItDied(letter)}, ${ago(letter.diedAt)}`);
    setText(byId("letter-message"), letter.message);
  }

  #more(found) {
    this.#fill(found);
    setText(byId("letter-field"), found.field);
    setText(byId("letter-fix"), found.fix);
    setHidden(byId("letter-gone"), found.facts !== null);
    setText(byId("letter-gone"), found.step === IMPORT && !found.product ? "It was never imported." : "It is gone.");
    byId("letter-facts").replaceChildren(...facts(found).map(pair));
    byId("letter-steps").replaceChildren(...found.steps.map(stepRow));
  }
}

function facts({ facts: known, job, product, recordedAt, step }) {
  const own = [
    [step === IMPORT ? "Failed" : "Asked for", clock(recordedAt)],
    ["Import", job || "–"],
    ["Row", product || "–"],
  ];
  if (!known) return own;
  return [
    ["Title", known.title || "–"],
    ["Price", known.price ? `${known.price} ${known.currency}`.trim() : "–"],
    ["Vendor", known.vendor || "–"],
    ["Type", known.kind || "–"],
    ["Status", known.status || "–"],
    ["Images", count(known.images)],
    ...own,
  ];
}

function pair([name, value]) {
  const made = document.createElement("div");
  made.append(document.createElement("dt"), document.createElement("dd"));
  setText(made.children[0], name);
  setText(made.children[1], value);
  made.children[1].className = "letter-fact";
  made.children[1].dir = "auto";
  return made;
}

function stepRow(step) {
  const row = fromTemplate("step-template");
  setText(row.querySelector(".step-name"), step.step);
  setText(row.querySelector(".step-state"), step.state);
  setText(row.querySelector(".step-when"), ago(step.changedAt));
  setText(row.querySelector(".error-message"), [step.reason, step.message].filter(Boolean).join(": "));
  return row;
}
