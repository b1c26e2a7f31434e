// Says what happened: messages on the screen, and quiet words for screen readers.

import { byId, fromTemplate, setText } from "./drawing.js";
import { plural } from "./words.js";

const SHOWN_MILLISECONDS = 8_000;
const MOST_SHOWN = 4;
const ANNOUNCE_MILLISECONDS = 3_000;

export function notify(text, kind = "good") {
  const notice = fromTemplate("notice-template");
  notice.dataset.kind = kind;
  notice.setAttribute("role", kind === "bad" ? "alert" : "status");
  const box = byId("notices");
  while (box.children.length >= MOST_SHOWN) box.firstElementChild.remove();
  box.append(notice);
  // Filled after it is there, so that a screen reader notices.
  setText(notice.querySelector(".notice-text"), text);
  notice.querySelector(".close").addEventListener("click", () => notice.remove());
  if (kind !== "bad") setTimeout(() => notice.remove(), SHOWN_MILLISECONDS);
}

const waiting = [];
let timer = 0;

// Changes of jobs, gathered: hundreds of them become one sentence.
export function announceChange(job) {
  waiting.push(job);
  timer ||= setTimeout(announce, ANNOUNCE_MILLISECONDS);
}

function announce() {
  timer = 0;
  const jobs = waiting.splice(0);
  const words = { Running: "started", Succeeded: "succeeded", Failed: "failed", Cancelled: "cancelled", Queued: "waiting", Pending: "waiting" };
  if (jobs.length <= 3) {
    setText(byId("announcer"), jobs.map((job) => `${job.name} ${words[job.phase] ?? job.phase}`).join(", "));
    return;
  }
  const counts = new Map();
  for (const job of jobs) counts.set(job.phase, (counts.get(job.phase) ?? 0) + 1);
  setText(byId("announcer"), [...counts].map(([phase, number]) => `${plural(number, "import")} ${words[phase] ?? phase}`).join(", "));
}
