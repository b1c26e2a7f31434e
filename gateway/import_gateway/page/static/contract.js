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
    deadLetters: number(value.deadLetters) ?? 0,
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

export function toFigures(value) {
  return {
    days: (value.days ?? []).map((row) => ({
      day: text(row.day),
      queue: text(row.queue),
      completed: number(row.completed) ?? 0,
      failed: number(row.failed) ?? 0,
      isAtLeast: row.isAtLeast === true,
    })),
    durations: (value.durations ?? []).map((row) => ({
      queue: text(row.queue),
      jobs: number(row.jobs) ?? 0,
      median: number(row.medianSeconds) ?? 0,
      p95: number(row.p95Seconds) ?? 0,
    })),
    failures: (value.failures ?? []).map((row) => ({ queue: text(row.queue), reason: text(row.reason), jobs: number(row.jobs) ?? 0, products: number(row.products) ?? 0 })),
    measuredAt: time(value.measuredAt),
  };
}

export function toSeller(value) {
  return { company: text(value.companyId), expiresAt: time(value.expiresAt) };
}

function letter(value) {
  return {
    id: text(value.id),
    product: text(value.productId),
    item: text(value.externalId),
    title: text(value.title),
    company: text(value.companyId),
    job: text(value.jobId),
    step: text(value.step),
    reason: text(value.reason),
    message: text(value.message),
    attempts: number(value.attempts) ?? 0,
    retryable: value.retryable === true,
    recordedAt: time(value.recordedAt),
    diedAt: time(value.diedAt),
  };
}

export function toActed(value) {
  return { changed: number(value.changed) ?? 0, next: text(value.next), skipped: number(value.skipped) ?? 0, why: text(value.why) };
}

export function toLetters(value) {
  return { items: (value.items ?? []).map(letter), next: text(value.next) };
}

export function toReasons(value) {
  return {
    items: (value.items ?? []).map((row) => ({
      step: text(row.step),
      reason: text(row.reason),
      count: number(row.count) ?? 0,
      retryable: row.retryable === true,
      field: text(row.field),
      fix: text(row.fix),
    })),
    more: value.more === true,
    total: number(value.total) ?? 0,
    isAtLeast: value.isAtLeast === true,
    asOf: text(value.asOf),
  };
}

export function toLetter(value) {
  const facts = value.product ?? null;
  return {
    ...letter(value),
    field: text(value.field),
    fix: text(value.fix),
    facts: facts && {
      title: text(facts.title),
      price: text(facts.price),
      currency: text(facts.currency),
      vendor: text(facts.vendor),
      kind: text(facts.productType),
      status: text(facts.status),
      images: number(facts.images),
    },
    steps: (value.steps ?? []).map((row) => ({
      step: text(row.step),
      state: text(row.state),
      reason: text(row.reason),
      message: text(row.message),
      changedAt: time(row.changedAt),
    })),
  };
}

export const FOUND_ON_A_PAGE = 20;
export const FOUND_AT_MOST = 200;

export function toFound(value) {
  return {
    items: (value.items ?? []).map((row) => ({
      title: text(row.title),
      item: text(row.externalId),
      source: text(row.importSource),
      price: text(row.price),
      currency: text(row.currency),
    })),
    degraded: (value.degraded ?? []).map(text),
  };
}
