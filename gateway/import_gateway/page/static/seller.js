// The page of one seller: exchanges the link for a cookie, then follows that company's imports and nothing else.

import { Problem, problemOf } from "./api.js";
import { toOverview, toSeller } from "./contract.js";
import { byId, drawProgress, fromTemplate, setAttribute, setHidden, setText } from "./drawing.js";
import { Stream } from "./stream.js";
import { ago, atMost, clock, count, note, phaseInWords, plural, sentence } from "./words.js";

const AGAIN_MILLISECONDS = 5_000;
const CLOCK_MILLISECONDS = 15_000;
const ENDED = "This link shows nothing any more";

const jobs = new Map();
const rows = new Map();
const stream = new Stream("/seller/events", Number(document.documentElement.dataset.heartbeatSeconds), {
  onOpen: () => live("on", "Live"),
  onEvent: received,
  onLost: () => live("off", "Connection lost"),
  onRefused: () => ended(ENDED, "It has expired, or somebody has taken it back. Ask whoever sent it to you for a new one."),
});

async function call(method, body) {
  let response;
  try {
    response = await fetch("/seller/session", {
      method,
      headers: { Accept: "application/json", ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
    });
  } catch {
    throw new Problem(0, "The gateway can’t be reached", "", null);
  }
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

function live(state, text) {
  setAttribute(byId("seller-live"), "data-state", state);
  setText(byId("seller-live-text"), text);
}

function ended(title, text) {
  stream.stop();
  jobs.clear();
  rows.clear();
  byId("seller-jobs").replaceChildren();
  live("idle", "");
  for (const id of ["seller-imports", "seller-account"]) setHidden(byId(id), true);
  setText(byId("seller-ended-title"), title);
  setText(byId("seller-ended-text"), text);
  setHidden(byId("seller-ended"), false);
  byId("seller-ended-title").focus();
}

function received(name, value) {
  const { jobs: changed, gone } = toOverview(value);
  if (name === "overview") jobs.clear();
  for (const job of changed) jobs.set(job.id, job);
  for (const id of gone.job) jobs.delete(id);
  draw();
}

function draw() {
  for (const [id, row] of rows) {
    if (jobs.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  const newest = [...jobs.values()].sort((a, b) => ((a.queuedAt ?? "") < (b.queuedAt ?? "") ? 1 : -1));
  newest.forEach((job, index) => {
    const row = rows.get(job.id) ?? fromTemplate("seller-job-template");
    rows.set(job.id, row);
    drawJob(row, job);
    const place = byId("seller-jobs").children[index];
    if (place !== row) byId("seller-jobs").insertBefore(row, place ?? null);
  });
  setHidden(byId("seller-empty"), jobs.size > 0);
}

function drawJob(row, job) {
  const part = (name) => row.querySelector(name);
  row.dataset.id = job.id;
  setText(part(".job-name-text"), job.name);
  setText(part(".job-from"), job.completedAt ? `ended ${ago(job.completedAt)}` : job.startedAt ? `started ${ago(job.startedAt)}` : `asked for ${ago(job.queuedAt)}`);
  setText(part(".badge"), phaseInWords(job.phase));
  setAttribute(part(".badge"), "data-phase", job.phase);
  setText(part(".job-note"), note(job));
  drawProgress(part(".progress"), job);
  setText(part(".job-percent"), `${job.percent} %`);
  setText(part(".job-products"), job.total === null ? plural(job.done, "product") : `${count(job.done)} / ${plural(job.total, "product")}`);
  setText(part(".job-failed"), job.failed ? `${count(job.failed)} failed` : "");
  setText(part(".job-letters"), job.deadLetters ? `${atMost(job.deadLetters, "product")} could not be published` : "");
}

async function enter() {
  const token = location.hash.slice(1);
  // The token leaves the address at once, so that it stays in no history and is copied with no address.
  if (token) history.replaceState(null, "", location.pathname);
  try {
    const seller = toSeller(await (token ? call("POST", { token }) : call("GET")));
    setText(byId("seller-company"), seller.company);
    setText(byId("seller-until"), `until ${clock(seller.expiresAt)}`);
    for (const id of ["seller-imports", "seller-account"]) setHidden(byId(id), false);
    setHidden(byId("seller-ended"), true);
    live("idle", "Connecting …");
    stream.start();
  } catch (problem) {
    if (problem.status === 401 || problem.status === 422) {
      ended(ENDED, "It has expired, or somebody has taken it back. Ask whoever sent it to you for a new one.");
      return;
    }
    ended("Your imports can’t be shown right now", `${sentence(problem.message)} Trying again by itself …`);
    setTimeout(() => retry(token), AGAIN_MILLISECONDS);
  }
}

function retry(token) {
  if (token && !location.hash) history.replaceState(null, "", `${location.pathname}#${token}`);
  enter();
}

byId("seller-leave").addEventListener("click", async () => {
  try {
    await call("DELETE");
    ended("The page is closed", "The link opens it again while it lasts.");
  } catch (problem) {
    live("off", sentence(problem.message));
  }
});
window.addEventListener("hashchange", () => location.hash && enter());
setInterval(draw, CLOCK_MILLISECONDS);
enter();
