// Small helpers for the document. Text goes in by textContent only, and only where it differs.

export function byId(id) {
  return document.getElementById(id);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

export function fromTemplate(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

// The bar of a job: done in one colour, failed in another, and the same in words for a screen reader.
export function drawProgress(bar, job) {
  const known = job.total > 0;
  const share = (value) => (known ? Math.min(100, (value / job.total) * 100).toFixed(2) : "0");
  const [done, failed] = bar.children;
  const doneWidth = `${share(job.done - job.failed)}%`;
  const failedWidth = `${share(job.failed)}%`;
  if (done.style.width !== doneWidth) done.style.width = doneWidth;
  if (failed.style.width !== failedWidth) failed.style.width = failedWidth;
  setAttribute(bar, "data-phase", job.phase);
  setAttribute(bar, "aria-label", `Progress of ${job.name}`);
  bar.toggleAttribute("data-unknown", !known && job.phase === "Running");
  if (!known && job.phase === "Running") {
    bar.removeAttribute("aria-valuenow");
    setAttribute(bar, "aria-valuetext", "Reading the catalogue");
    return;
  }
  setAttribute(bar, "aria-valuenow", job.percent);
  setAttribute(bar, "aria-valuetext", known ? `${job.percent} percent, ${job.done} of ${job.total} products` : `${job.percent} percent`);
}

// Moving an element takes the focus from what is in it: give it back.
export function moveBefore(parent, element, reference) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  parent.insertBefore(element, reference);
  if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
}
