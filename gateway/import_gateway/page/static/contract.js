// The one place that knows the shape of the gateway's answers: everything else uses these plain values.

function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function text(value) {
  return typeof value === "string" ? value : "";
}

function time(value) {
  return text(value) || null;
}

export function toJob(value) {
  const progress = value.progress ?? {};
  const estimate = value.estimate ?? {};
  const counter = (name) => number(progress[name]) ?? 0;
  return {
    id: text(value.id),
    namespace: text(value.namespace),
    name: text(value.name),
    company: text(value.companyId),
    provider: text(value.provider),
    phase: text(value.phase) || "Pending",
    reason: text(value.reason),
    message: text(value.message),
    waitingReason: text(value.waitingReason),
    suspended: value.suspended === true,
    attempts: number(value.attempts),
    queuedAt: time(value.queuedAt),
    startedAt: time(value.startedAt),
    completedAt: time(value.completedAt),
    place: number(estimate.place),
    placeIsAtLeast: estimate.placeIsAtLeast === true,
    untilDue: number(estimate.secondsUntilDue),
    untilStart: number(estimate.secondsUntilStart),
    untilDone: number(estimate.secondsUntilDone),
    percent: counter("percent"),
    total: number(progress.productsTotal),
    done: counter("productsDone"),
    imported: counter("productsImported"),
    unchanged: counter("productsUnchanged"),
    failed: counter("productsFailed"),
    images: counter("imagesImported") + counter("imagesUnchanged"),
    imagesTotal: counter("imagesTotal"),
    imagesFailed: counter("imagesFailed"),
  };
}

export function toQueue(value) {
  const thresholds = value.thresholds ?? {};
  return {
    id: text(value.queue),
    level: text(value.level) || "unknown",
    depth: number(value.depth),
    depthIsAtLeast: value.depthIsAtLeast === true,
    due: number(value.due),
    running: number(value.running),
    degradedAbove: number(thresholds.degradedAbove),
    criticalAbove: number(thresholds.criticalAbove),
    overloadAbove: number(thresholds.overloadAbove),
    intakeOpen: typeof value.intakeOpen === "boolean" ? value.intakeOpen : null,
    intakeReason: text(value.intakeReason),
    workersWanted: number(value.workersDesired),
    paused: value.paused === true,
    pausedBy: text(value.pausedBy),
    pausedReason: text(value.pausedReason),
    pausedSince: time(value.pausedSince),
  };
}

export function toWorker(value) {
  return {
    id: text(value.id),
    pod: text(value.pod),
    queue: text(value.queue),
    state: text(value.state),
    concurrency: number(value.concurrency) ?? 0,
    jobs: number(value.jobs) ?? 0,
    startedAt: time(value.startedAt),
  };
}

export function toMe(value) {
  const may = value.may ?? {};
  return {
    name: text(value.username),
    namespace: text(value.namespace),
    may: { list: may.list === true, retry: may.retry === true, cancel: may.cancel === true, pause: may.pause === true },
  };
}

// An overview, or what changed of it.
export function toOverview(value) {
  const gone = { job: [], queue: [], worker: [] };
  for (const key of value.gone ?? []) {
    const slash = key.indexOf("/");
    gone[key.slice(0, slash)]?.push(key.slice(slash + 1));
  }
  return {
    jobs: (value.jobs ?? []).map(toJob),
    queues: (value.queues ?? []).map(toQueue),
    workers: (value.workers ?? []).map(toWorker),
    gone,
  };
}

export function toJobs(value) {
  return { items: (value.items ?? []).map(toJob), next: text(value.next) };
}

export function toErrors(value) {
  return {
    total: number(value.total),
    next: text(value.next),
    reasons: (value.reasons ?? []).map((row) => ({ stage: text(row.stage), reason: text(row.reason), count: number(row.count) ?? 0 })),
    items: (value.items ?? []).map((row) => ({
      item: text(row.externalId),
      stage: text(row.stage),
      reason: text(row.reason),
      message: text(row.message),
      url: text(row.url),
    })),
  };
}
