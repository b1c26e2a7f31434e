// The page of dead letters: why imports and steps gave products up, which these are, and what is decided on them.

import { api } from "./api.js";
import { asking } from "./asking.js";
import { confirm } from "./confirm.js";
import { toActed, toLetters, toMe, toReasons } from "./contract.js";
import { byId, fromTemplate, setAttribute, setHidden, setText } from "./drawing.js";
import { howItDied, IMPORT, LetterDetails, nameOf, reasonInWords } from "./letter.js";
import { notify } from "./notices.js";
import { ago, clock, count, plural, sentence } from "./words.js";

// One click sends so many requests at most; a person sees what came of them before going on.
const MOST_REQUESTS = 20;
const FIELDS = { companyId: "letters-company", job: "letters-job", product: "letters-product", step: "letters-step" };
const VERBS = { retry: "Retry", discard: "Discard" };
const DONE = { retry: "to be tried again", discard: "given up" };

const ask = asking("letters");
let may = null;
let reasons = null;
let readAt = null;
// {step, reason}: one of the reasons; null: all.
let chosen = null;
// What the fields said when the reasons were asked for: what is typed since is not shown yet.
let filtered = {};
let next = "";
let busy = false;
const details = new LetterDetails(actOnOne);

// What the fields say, without the chosen reason.
function filter() {
  const values = Object.entries(FIELDS).map(([name, id]) => [name, byId(id).value.trim()]);
  return Object.fromEntries(values.filter(([, value]) => value));
}

function wanted() {
  return chosen ? { ...filter(), step: chosen.step, reason: chosen.reason } : filter();
}

// What the numbers on the buttons are of.
function shown() {
  return chosen ? { ...filtered, step: chosen.step, reason: chosen.reason } : filtered;
}

function isChosen(row) {
  return chosen !== null && row.step === chosen.step && row.reason === chosen.reason;
}

function chosenRow() {
  return reasons.items.find(isChosen);
}

function number() {
  return chosen ? (chosenRow()?.count ?? 0) : reasons.total;
}

// None was counted, and that is all: there is nothing to act on. Among what was not counted there may be.
function isNone() {
  return number() === 0 && !reasons.isAtLeast;
}

// How many "all" are; nothing where none of them was counted.
function inWords() {
  const value = number();
  if (!reasons.isAtLeast) return count(value);
  return value ? `over ${count(value - 1)}` : "";
}

function drawReasons() {
  const rows = reasons.items.map((row) => {
    const made = fromTemplate("reason-template");
    const button = made.querySelector("button");
    setText(made.querySelector(".reason-name"), reasonInWords(row.reason));
    setText(made.querySelector(".reason-step"), row.step);
    setText(made.querySelector(".count"), count(row.count));
    setAttribute(button, "aria-pressed", isChosen(row));
    button.addEventListener("click", () => choose(isChosen(row) ? null : row));
    return made;
  });
  byId("letter-reasons").replaceChildren(...rows);
  setHidden(byId("reasons-more"), !reasons.more);
}

function drawHead() {
  const row = chosenRow();
  setText(byId("letters-title"), chosen ? `${reasonInWords(chosen.reason)} in ${chosen.step}` : "All of them");
  setText(byId("letters-fix"), row ? `Look at: ${row.field}. ${row.fix}` : "");
  setText(byId("retry-all"), `Retry all ${inWords()}`.trim());
  setText(byId("discard-all"), `Discard all ${inWords()}`.trim());
  setHidden(byId("retry-all"), !may.retry || isNone());
  setHidden(byId("discard-all"), !may.discard || isNone());
  setHidden(byId("letters-rights"), may.retry || may.discard);
  setText(byId("letters-at"), `as of ${clock(readAt)}`);
}

function letterRow(letter) {
  const row = fromTemplate("letter-template");
  const part = (name) => row.querySelector(name);
  row.dataset.id = letter.id;
  setText(part(".job-name bdi"), nameOf(letter));
  setText(part(".letter-company"), letter.company);
  setText(part(".letter-item"), letter.item || "the product is gone");
  setText(part(".badge"), reasonInWords(letter.reason));
  setText(part(".letter-step"), letter.step);
  setText(part(".job-note"), letter.message);
  setText(part(".letter-when"), `${ago(letter.diedAt)}, ${howItDied(letter)}`);
  part(".job-name").addEventListener("click", () => details.open(letter, may));
  return row;
}

function drawLetters(page, more) {
  const list = byId("letter-list");
  const rows = page.items.map(letterRow);
  if (more) list.append(...rows);
  else list.replaceChildren(...rows);
  next = page.next;
  setHidden(byId("letters-more"), !next);
  setHidden(byId("letters-empty"), list.children.length > 0 || Boolean(next));
  setText(byId("letters-empty"), Object.keys(wanted()).length ? "None matches." : "There is no dead letter.");
  if (more) rows[0]?.querySelector(".job-name").focus();
}

async function getAll() {
  if (may === null) {
    const { may: rights } = toMe(await api.me());
    may = { retry: rights.retry, discard: rights.cancel };
  }
  const [fields, listed] = [filter(), wanted()];
  return { fields, why: toReasons(await api.deadReasons(fields)), page: toLetters(await api.deadLetters(listed)) };
}

function read() {
  return ask(getAll, ({ fields, why, page }) => {
    reasons = why;
    filtered = fields;
    readAt = new Date().toISOString();
    drawReasons();
    drawHead();
    drawLetters(page, false);
  });
}

function readMore() {
  return ask(async () => toLetters(await api.deadLetters({ ...wanted(), cursor: next })), (page) => drawLetters(page, true));
}

function choose(row) {
  chosen = row && { step: row.step, reason: row.reason };
  const buttons = byId("letter-reasons").querySelectorAll("button");
  reasons.items.forEach((item, index) => setAttribute(buttons[index], "aria-pressed", isChosen(item)));
  remember();
  drawHead();
  return ask(async () => toLetters(await api.deadLetters(wanted())), (page) => drawLetters(page, false));
}

// The address says what is shown, so that it can be sent to somebody.
function remember() {
  const query = new URLSearchParams(wanted()).toString();
  history.replaceState(null, "", query ? `${location.pathname}?${query}` : location.pathname);
}

// `step` empty: of all that are listed, and those of imports come last.
function consequence(action, step, invalid) {
  const imports = step ? step === IMPORT : reasons.isAtLeast || reasons.items.some((row) => row.step === IMPORT);
  if (action === "discard") {
    const ofSteps = step === IMPORT ? "" : "A product takes a discarded step, and those behind it, only when it changes.";
    const ofImports = imports ? "What an import gave up stays among its errors, and its retries leave it out." : "";
    return `${ofSteps} ${ofImports}`.trim();
  }
  if (step === IMPORT) return "Its import imports all its failed items again. What is invalid fails again, unless what was wrong has changed.";
  if (invalid) return "What is invalid fails again, unless what was wrong has changed.";
  return "Each gets all its tries again. Do so once the cause is out of the way.";
}

async function actOnAll(action) {
  const choice = shown();
  const body = { ...(Object.keys(choice).length ? choice : { all: true }), until: reasons.asOf };
  const which = chosen ? ` of ${reasonInWords(chosen.reason)} in ${chosen.step}` : "";
  const words = `${inWords() || "all"} ${number() === 1 ? "dead letter" : "dead letters"}`;
  const { yes } = await confirm({
    title: `${VERBS[action]} ${words}${which}?`,
    text: consequence(action, choice.step, chosen !== null && chosenRow()?.retryable === false),
    yes: `${VERBS[action]} ${words}`,
    no: "Leave them",
    danger: action === "discard",
  });
  if (!yes || busy) return;
  busy = true;
  setAttribute(byId("letters"), "aria-busy", true);
  let changed = 0;
  try {
    let cursor = "";
    let [skipped, why] = [0, ""];
    for (let requests = 0; requests === 0 || (cursor && requests < MOST_REQUESTS); requests++) {
      const answer = toActed(await api.actOnLetters(action, cursor ? { ...body, cursor } : body));
      changed += answer.changed;
      skipped += answer.skipped;
      why ||= answer.why;
      cursor = answer.next;
    }
    const left = skipped ? ` ${plural(skipped, "dead letter")} left as they are: ${sentence(why)}` : "";
    notify(`${plural(changed, "dead letter")} ${DONE[action]}.${left}${cursor ? " There are more: do it again for them." : ""}`);
  } catch (problem) {
    const before = changed ? `${plural(changed, "dead letter")} ${DONE[action]}, then it failed. ` : "";
    notify(`${before}${sentence(problem.message)}`, "bad");
  } finally {
    busy = false;
    await after();
  }
}

async function actOnOne(action, letter) {
  const { yes } = await confirm({
    title: `${VERBS[action]} ${letter.step} of ${nameOf(letter)}?`,
    text: consequence(action, letter.step, !letter.retryable),
    yes: VERBS[action],
    no: "Leave it",
    danger: action === "discard",
  });
  if (!yes) return;
  try {
    await api.actOnLetter(action, letter.id);
    notify(`${letter.step} of ${nameOf(letter)}: ${DONE[action]}`);
  } catch (problem) {
    // Somebody else was faster: then there is nothing more to see here.
    if (problem.status !== 404 && problem.status !== 409) {
      details.failed(problem);
      return;
    }
    notify(sentence(problem.message), "bad");
  }
  details.close();
  await after();
}

// What had the focus may be gone with its row.
async function after() {
  await read();
  if (!document.activeElement || document.activeElement === document.body) byId("letters-title").focus();
}

function start() {
  const linked = new URLSearchParams(location.search);
  // What a person typed while the page was still loading stays.
  for (const [name, id] of Object.entries(FIELDS)) if (linked.has(name)) byId(id).value = linked.get(name);
  if (linked.has("reason") && linked.has("step")) {
    chosen = { step: linked.get("step"), reason: linked.get("reason") };
    byId("letters-step").value = "";
  }
  byId("letters-filters").addEventListener("change", () => {
    chosen = null;
    remember();
    read();
  });
  byId("letters-filters").addEventListener("submit", (event) => event.preventDefault());
  byId("letters-more").addEventListener("click", readMore);
  byId("letters-again").addEventListener("click", read);
  byId("retry-all").addEventListener("click", () => actOnAll("retry"));
  byId("discard-all").addEventListener("click", () => actOnAll("discard"));
  remember();
  read();
}

start();
