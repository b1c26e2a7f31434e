// What people read: numbers, times, phases and reasons in words.

const WHOLE = new Intl.NumberFormat("en");
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DAY_AND_CLOCK = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export const GROUPS = [
  { id: "running", title: "Running now", empty: "Nothing is running.", phases: ["Running"] },
  { id: "failed", title: "Failed", empty: "No import failed lately.", phases: ["Failed"] },
  { id: "waiting", title: "Waiting", empty: "Nothing waits.", phases: ["Pending", "Queued"] },
  { id: "finished", title: "Finished", empty: "None has finished yet.", phases: ["Succeeded", "Cancelled"] },
];

const WAITING = {
  QueueFull: "all workers are busy",
  ProviderLimit: "waits for the provider’s call limit",
  BreakerOpen: "the provider fails too often",
  Backpressure: "the queue is too deep for this tier",
  Paused: "dispatch is paused",
  Retry: "a try failed, the next one waits",
};

const LEVELS = { healthy: "Healthy", degraded: "Degraded", critical: "Critical", overload: "Overload" };

const PHASES = { Pending: "Waiting", Queued: "Waiting", Running: "Running", Succeeded: "Done", Failed: "Failed", Cancelled: "Cancelled" };

export function phaseInWords(phase) {
  return PHASES[phase] ?? phase;
}

export function groupOf(job) {
  return GROUPS.find((group) => group.phases.includes(job.phase))?.id ?? "waiting";
}

export function isFinal(job) {
  return ["Succeeded", "Failed", "Cancelled"].includes(job.phase);
}

export function levelInWords(level) {
  return LEVELS[level] ?? "Unknown";
}

export function count(value) {
  return value === null || value === undefined ? "–" : WHOLE.format(value);
}

export function sentence(text) {
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

// What is counted up to a thousand.
export function atMost(number, one) {
  return number < 1000 ? plural(number, one) : `over ${plural(999, one)}`;
}

// A span in seconds, to two units at most.
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return whole < 600 && whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${Math.round(whole / 60)} min`;
  const hours = Math.floor(whole / 3600);
  if (hours < 24) return `${hours} h ${Math.floor((whole % 3600) / 60)} min`;
  return plural(Math.floor(hours / 24), "day");
}

// An estimate, no more exact than it is.
export function roughly(seconds) {
  if (seconds < 55) return duration(Math.max(5, Math.round(seconds / 5) * 5));
  return duration(Math.max(60, Math.round(seconds / 60) * 60));
}

export function secondsSince(time, now = Date.now()) {
  return time ? (now - Date.parse(time)) / 1000 : null;
}

export function ago(time, now = Date.now()) {
  const seconds = secondsSince(time, now);
  if (seconds === null) return "";
  return seconds < 5 ? "just now" : `${duration(seconds)} ago`;
}

// The hour alone for today, else with the day, in the reader's own time zone.
export function clock(time) {
  if (!time) return "–";
  const then = new Date(time);
  return (then.toDateString() === new Date().toDateString() ? CLOCK : DAY_AND_CLOCK).format(then);
}

// A service account's name without what all of them have in common.
export function accountName(username) {
  const [, namespace, name] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(username) ?? [];
  return name ? `${namespace}/${name}` : username;
}

// One line beside the phase: what a person asks next.
export function note(job, now = Date.now()) {
  if (job.phase === "Running") return runningNote(job, now);
  if (!isFinal(job)) return waitingNote(job);
  const took = job.startedAt && job.completedAt ? (Date.parse(job.completedAt) - Date.parse(job.startedAt)) / 1000 : null;
  const when = ago(job.completedAt, now);
  if (job.phase === "Failed") return [job.message || job.reason, when].filter(Boolean).join(" · ");
  return [when, took === null ? "" : `took ${duration(took)}`].filter(Boolean).join(" · ");
}

function runningNote(job, now) {
  const parts = [];
  const running = secondsSince(job.startedAt, now);
  const left = job.untilDone ?? secondsLeft(job, running);
  if (left !== null) parts.push(`about ${roughly(left)} left`);
  if (running !== null) parts.push(`for ${duration(running)}`);
  return parts.join(" · ") || job.message;
}

// From the job's own pace; nothing before its first products.
function secondsLeft(job, running) {
  if (!job.total || job.done <= 0 || running === null) return null;
  return (Math.max(0, running) / job.done) * Math.max(0, job.total - job.done);
}

function waitingNote(job) {
  if (job.suspended) return "held back: suspended";
  const parts = [];
  if (job.place !== null) parts.push(job.place === 0 ? "next" : `${job.placeIsAtLeast ? "over " : ""}${count(job.place)} ahead`);
  if (job.untilDue) parts.push(`due in ${roughly(job.untilDue)}`);
  else if (job.untilStart !== null) parts.push(`starts in about ${roughly(job.untilStart)}`);
  const reason = WAITING[job.waitingReason] ?? job.waitingReason;
  if (reason) parts.push(reason);
  return parts.join(" · ") || job.message;
}
