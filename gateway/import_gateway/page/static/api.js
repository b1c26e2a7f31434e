// Talks to the gateway. Every refusal is a Problem: what RFC 9457 documents say, in words for people.

const ANSWER_MILLISECONDS = 20_000;

export class Problem extends Error {
  constructor(status, title, detail, retryAfter) {
    super(detail ? `${title}: ${detail}` : title);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export async function problemOf(response) {
  let document = {};
  try {
    document = await response.json();
  } catch {
    // An answer of something in between, such as a proxy: the status has to do.
  }
  const title = typeof document.title === "string" ? document.title : `The gateway answered ${response.status}`;
  const detail = typeof document.detail === "string" ? document.detail : "";
  return new Problem(response.status, title, detail, Number(response.headers.get("Retry-After")) || null);
}

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(ANSWER_MILLISECONDS),
    });
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Problem(0, late ? "The gateway did not answer in time" : "The gateway can’t be reached", "", null);
  }
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

function jobPath(job) {
  return `/v1/imports/${encodeURIComponent(job.namespace)}/${encodeURIComponent(job.name)}`;
}

export const api = {
  me: () => call("GET", "/v1/me"),
  signIn: (token) => call("POST", "/session", { token }),
  signOut: () => call("DELETE", "/session"),
  errors: (job, cursor) => call("GET", `${jobPath(job)}/errors?${new URLSearchParams({ limit: "50", ...(cursor ? { cursor } : {}) })}`),
  imports: (filter) => call("GET", `/v1/imports?${new URLSearchParams({ limit: "100", ...filter })}`),
  one: (job) => call("GET", jobPath(job)),
  retry: (job, how = {}) => call("POST", `${jobPath(job)}/retry`, how),
  cancel: (job) => call("POST", `${jobPath(job)}/cancel`),
  figures: (days) => call("GET", `/v1/figures?${new URLSearchParams({ days: String(days) })}`),
  deadReasons: (filter) => call("GET", `/v1/dead-letters/reasons?${new URLSearchParams(filter)}`),
  deadLetters: (filter) => call("GET", `/v1/dead-letters?${new URLSearchParams({ limit: "50", ...filter })}`),
  deadLetter: (id) => call("GET", `/v1/dead-letters/${encodeURIComponent(id)}`),
  actOnLetter: (action, id) => call("POST", `/v1/dead-letters/${encodeURIComponent(id)}/${action}`),
  actOnLetters: (action, choice) => call("POST", `/v1/dead-letters/${action}`, choice),
  search: (companyId, q, offset) => call("GET", `/v1/search?${new URLSearchParams({ companyId, q, limit: "20", offset: String(offset) })}`),
  pause: (queue, reason) => call("POST", "/v1/queue/pause", reason ? { queue, reason } : { queue }),
  resume: (queue) => call("POST", "/v1/queue/resume", { queue }),
};
