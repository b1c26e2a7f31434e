// The page: signs in, reads everything once, then follows the event stream.

import { Actions } from "./actions.js";
import { Problem, api } from "./api.js";
import { toMe, toOverview } from "./contract.js";
import { Details } from "./details.js";
import { byId, setAttribute, setHidden, setText } from "./drawing.js";
import { Estimates } from "./estimates.js";
import { JobList } from "./jobs.js";
import { announceChange, notify } from "./notices.js";
import { Older } from "./older.js";
import { Overview } from "./overview.js";
import { showSignIn, wireSignIn } from "./session.js";
import { Store } from "./store.js";
import { Stream } from "./stream.js";
import { accountName } from "./words.js";

const CLOCK_MILLISECONDS = 5_000;
const COMPANIES_OFFERED = 200;

const store = new Store(draw, announceChange);
const actions = new Actions();
const details = new Details(store, act);
const list = new JobList(store, act);
const estimates = new Estimates(store, () => [...details.shown(), ...list.waitingShown()]);
const older = new Older(store);
const overview = new Overview(store, (action, queue) => (action === "pause" ? actions.pause(queue) : actions.resume(queue)));
const stream = new Stream("/v1/events", Number(document.documentElement.dataset.heartbeatSeconds), { onOpen: opened, onEvent: received, onLost: lost, onRefused: ended });

function draw() {
  overview.draw();
  list.draw();
  details.draw();
}

function act(action, job) {
  if (!job) return;
  if (action === "open") details.open(job);
  if (action === "cancel") actions.cancel(job);
  if (action === "retry") actions.retry(job);
  if (action === "retry-items") actions.retryItems(job);
}

function opened() {
  live("on", "Live");
  setHidden(byId("lost"), true);
}

// The first event has everything, later ones what changed; the stream's id tells the gateway what we have.
function received(name, value) {
  if (name === "overview") store.replace(toOverview(value));
  if (name === "change") store.change(toOverview(value));
}

function lost(seconds, problem) {
  live("off", "Connection lost");
  const why = problem && problem.status ? ` ${problem.message}.` : "";
  setText(byId("lost"), `The connection is lost; what you see may be old. Trying again …${why}`);
  setHidden(byId("lost"), false);
}

function ended(problem) {
  stream.stop();
  store.clear();
  older.reset();
  details.close();
  live("idle", "");
  showSignIn(problem?.status === 403 ? problem.message : "Your session has ended. Sign in again.");
}

function live(state, text) {
  setAttribute(byId("live"), "data-state", state);
  setText(byId("live-text"), text);
}

async function enter() {
  let me;
  try {
    me = toMe(await api.me());
  } catch (problem) {
    if (problem.status === 401) showSignIn("");
    else if (problem.status === 403) showSignIn(problem.message);
    else startLater(problem);
    return;
  }
  if (!me.may.list) {
    showSignIn(`${accountName(me.name)} may not see imports: it needs the right to list importjobs.imports.avnz.io in ${me.namespace}.`);
    return;
  }
  store.me = me;
  setHidden(byId("sign-in"), true);
  for (const id of ["dashboard", "account", "skip", "pages"]) setHidden(byId(id), false);
  setText(byId("account-name"), accountName(me.name));
  setAttribute(byId("account-name"), "title", me.name);
  const lacking = !me.may.cancel && !me.may.retry;
  setHidden(byId("rights"), !lacking);
  if (lacking) setText(byId("rights"), "Your account may look, but not retry or cancel.");
  live("idle", "Connecting …");
  stream.start();
}

function startLater(problem) {
  lost(3, problem instanceof Problem ? problem : null);
  setTimeout(enter, 3000);
}

function wireFilters() {
  const read = () => {
    const data = new FormData(byId("filters"));
    list.filter = {
      name: byId("filter-name").value.trim().toLowerCase(),
      company: byId("filter-company").value.trim().toLowerCase(),
      phase: data.get("phase") ?? "",
    };
    older.setCompany(byId("filter-company").value.trim());
    list.draw();
  };
  byId("filters").addEventListener("input", read);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filter-company").addEventListener("focus", offerCompanies);
}

function offerCompanies() {
  const names = [...new Set([...store.all()].map((job) => job.company))].sort().slice(0, COMPANIES_OFFERED);
  byId("companies").replaceChildren(...names.map((name) => new Option("", name)));
}

byId("sign-out").addEventListener("click", async () => {
  try {
    await api.signOut();
  } catch (problem) {
    if (problem.status !== 401) {
      notify(`Could not sign out. ${problem.message}`, "bad");
      return;
    }
  }
  ended(null);
  showSignIn("You are signed out.");
});
wireFilters();
wireSignIn(enter);
setInterval(() => store.touch(), CLOCK_MILLISECONDS);
estimates.start();
enter();
