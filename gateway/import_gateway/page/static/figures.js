// The page of figures: reads them once a minute, and draws them as small charts with the same in words beside.

import { api } from "./api.js";
import { asking } from "./asking.js";
import { toFigures } from "./contract.js";
import { byId, fromTemplate, setHidden, setText } from "./drawing.js";
import { clock, count, duration, plural } from "./words.js";

const AGAIN_MILLISECONDS = 60_000;
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1000;
const HEIGHT = 100;
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

const ask = asking("figures");
let figures = null;

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// The days that are chosen, each with all chosen queues together.
function byDay(rows) {
  const days = new Map();
  for (const row of rows) {
    const day = days.get(row.day) ?? { day: row.day, completed: 0, failed: 0, isAtLeast: false };
    day.completed += row.completed;
    day.failed += row.failed;
    day.isAtLeast ||= row.isAtLeast;
    days.set(row.day, day);
  }
  return [...days.values()];
}

function success(completed, failed) {
  const all = completed + failed;
  return all ? `${(Math.floor((completed / all) * 1000) / 10).toFixed(1)} %` : "–";
}

function atLeast(day, value) {
  return day.isAtLeast ? `over ${count(value - 1)}` : count(value);
}

function drawDays(days) {
  const most = Math.max(1, ...days.map((day) => day.completed + day.failed));
  const step = WIDTH / Math.max(1, days.length);
  const total = plural(days.reduce((sum, day) => sum + day.completed + day.failed, 0), "job");
  const chart = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${total} in ${plural(days.length, "day")}; the table below has the numbers` });
  days.forEach((day, index) => {
    const [good, bad] = [day.completed, day.failed].map((value) => (value / most) * (HEIGHT - 4));
    const at = { x: (index + 0.12) * step, width: step * 0.76 };
    const title = element("title", {});
    title.textContent = `${DAY.format(new Date(day.day))}: ${count(day.completed)} completed, ${count(day.failed)} failed`;
    const column = element("g", {});
    column.append(title, element("rect", { class: "completed", ...at, y: HEIGHT - good, height: good }), element("rect", { class: "failed", ...at, y: HEIGHT - good - bad, height: bad }));
    chart.append(column);
  });
  chart.append(element("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }));
  const labels = document.createElement("div");
  labels.className = "chart-days";
  labels.setAttribute("aria-hidden", "true");
  for (const day of [days[0], days[days.length - 1]]) {
    const label = document.createElement("span");
    setText(label, day ? DAY.format(new Date(day.day)) : "");
    labels.append(label);
  }
  byId("per-day").replaceChildren(chart, labels);
  byId("per-day-rows").replaceChildren(
    ...[...days].reverse().map((day) => {
      const row = document.createElement("tr");
      const words = [DAY.format(new Date(day.day)), atLeast(day, day.completed), atLeast(day, day.failed), success(day.completed, day.failed)];
      row.append(
        ...words.map((text, index) => {
          const cell = document.createElement(index ? "td" : "th");
          if (!index) cell.setAttribute("scope", "row");
          setText(cell, text);
          return cell;
        }),
      );
      return row;
    }),
  );
}

function bar(name, words, fill, mark = 0) {
  const row = fromTemplate("bar-template");
  setText(row.querySelector(".bar-name"), name);
  setText(row.querySelector(".bar-value"), words);
  row.querySelector(".bar-fill").style.width = `${(fill * 100).toFixed(2)}%`;
  row.querySelector(".bar-mark").style.width = `${(mark * 100).toFixed(2)}%`;
  return row;
}

// A reason may be that of whole jobs, of single products of a step, or of both.
function failed(row) {
  const words = row.products ? [plural(row.products, "product")] : [];
  if (row.jobs || !row.products) words.unshift(plural(row.jobs, "job"));
  return words.join(", ");
}

function drawBars(durations, failures) {
  const longest = Math.max(1, ...durations.map((row) => row.p95));
  byId("durations").replaceChildren(
    ...durations.map((row) => bar(row.queue, `${duration(row.median)} · 95 % within ${duration(row.p95)} · ${plural(row.jobs, "job")}`, row.median / longest, row.p95 / longest)),
  );
  const most = Math.max(1, ...failures.map((row) => row.jobs + row.products));
  byId("failures").replaceChildren(...failures.map((row) => bar(`${row.reason} (${row.queue})`, failed(row), (row.jobs + row.products) / most)));
  setHidden(byId("no-failures"), failures.length > 0);
}

function drawTotals(days) {
  const sum = (name) => days.reduce((all, day) => all + day[name], 0);
  const [completed, failed] = [sum("completed"), sum("failed")];
  setText(byId("total-jobs"), count(completed + failed));
  setText(byId("total-success"), success(completed, failed));
  setText(byId("total-failed"), count(failed));
}

function offerQueues() {
  const chosen = byId("figures-queue");
  const queues = [...new Set(figures.days.map((row) => row.queue))];
  const wanted = queues.includes(chosen.value) ? chosen.value : "";
  chosen.replaceChildren(new Option("All", ""), ...queues.map((queue) => new Option(queue, queue)));
  chosen.value = wanted;
}

function draw() {
  if (!figures) return;
  const queue = byId("figures-queue").value;
  const chosen = (row) => !queue || row.queue === queue;
  const days = byDay(figures.days.filter(chosen));
  drawTotals(days);
  drawDays(days);
  drawBars(figures.durations.filter(chosen), figures.failures.filter(chosen));
  setText(byId("figures-at"), figures.measuredAt ? `as of ${clock(figures.measuredAt)}` : "");
}

function read() {
  const days = Number(byId("figures-span").value);
  ask(async () => toFigures(await api.figures(days)), (found) => {
    figures = found;
    setText(byId("figures-days"), String(days));
    offerQueues();
    draw();
  });
}

byId("figures-queue").addEventListener("change", draw);
byId("figures-span").addEventListener("change", read);
byId("figures-filters").addEventListener("submit", (event) => event.preventDefault());
setInterval(() => document.hidden || read(), AGAIN_MILLISECONDS);
read();
