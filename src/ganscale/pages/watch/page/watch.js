// The page of `ganscale watch`: asks for what is new, and draws it.

import { Chart } from "./chart.js";
import { choices, readAddress, show, showFound, writeAddress } from "./choices.js";
import { drawDifferences } from "./differences.js";
import { byId } from "./elements.js";
import { drawLegend } from "./legend.js";
import { MetricMenu } from "./metric_menu.js";
import { runColumns, scoreColumns } from "./run_columns.js";
import { Samples } from "./samples.js";
import { SortableTable } from "./sortable.js";
import { count, firstMetrics } from "./words.js";

const EVERY_MS = 2000;

let runs = new Map();
let curves = new Map(); // by run and metric
const charts = new Map();
const seen = { session: null, runs: 0, curves: 0, selection: null, compared: null };
const areChosen = { metrics: false, runs: false };
const allRuns = new SortableTable(byId("runs"), "All runs");
const scores = new SortableTable(byId("scores"), "Scores of the runs");
const samples = new Samples();
const menu = new MetricMenu(chooseMetric);

const compared = () => [...runs.values()].filter((run) => choices.shown.has(run.number));
const metricNames = () => [...new Set(compared().flatMap((run) => run.metrics))].sort();
const keyOf = (run, metric) => `${run} ${metric}`;

async function ask(path, parameters) {
  const answer = await fetch(`${path}?${new URLSearchParams(parameters)}`);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/** Ask for the runs that have changed; return whether there is more to ask for. */
async function followRuns() {
  const answer = await ask("/runs", { since: seen.runs });
  if (answer.session !== seen.session) {
    const isFirst = seen.session === null;
    forgetServer(answer.session);
    if (!isFirst) return true; // its numbers mean other runs: ask anew
  }
  const isFirst = seen.runs === 0;
  seen.runs = answer.now;
  const there = new Set(answer.runs);
  for (const number of runs.keys()) {
    if (there.has(number)) continue;
    runs.delete(number);
    show(number, false);
  }
  const found = answer.changed.filter((run) => !runs.has(run.number));
  for (const run of answer.changed) runs.set(run.number, run);
  showFound(found, isFirst);
  byId("folders").textContent = answer.folders.join(" · ");
  return answer.more;
}

function forgetServer(session) {
  Object.assign(seen, { session, runs: 0, curves: 0, selection: null, compared: null });
  runs = new Map();
  curves = new Map();
  for (const number of [...choices.shown]) show(number, false);
}

/** Ask for what is new of the curves that are drawn; return whether there is more. */
async function followCurves() {
  const asked = compared().map((run) => run.number);
  const metrics = [...(choices.metrics ?? [])];
  const selection = JSON.stringify([choices.x, asked, metrics]);
  if (selection !== seen.selection) Object.assign(seen, { selection, curves: 0 });
  if (!asked.length || !metrics.length) return false;
  const list = [["since", seen.curves], ["x", choices.x]];
  list.push(...asked.map((run) => ["run", run]), ...metrics.map((metric) => ["metric", metric]));
  const isWhole = seen.curves === 0;
  const answer = await ask("/curves", list);
  if (selection !== seen.selection) return true; // the reader chose something else meanwhile
  seen.curves = answer.now;
  if (isWhole) curves = new Map();
  for (const part of answer.curves) {
    const key = keyOf(part.run, part.metric);
    const known = curves.get(key) ?? { x: [], y: [] };
    const joined = {};
    for (const column of ["x", "y", "low", "high"]) {
      if (part[column]) joined[column] = [...(known[column] ?? []).slice(0, part.from), ...part[column]];
    }
    curves.set(key, joined);
  }
  return answer.more;
}

/** Compare the configurations again once other runs are compared, or one was started again. */
async function followDifferences() {
  const asked = compared();
  const signature = JSON.stringify(asked.map((run) => [run.number, run.state, run.steps]));
  if (signature === seen.compared) return;
  seen.compared = signature;
  const answer = await ask("/differences", asked.map((run) => ["run", run.number]));
  drawDifferences(answer, asked);
}

async function follow() {
  let wait = EVERY_MS;
  try {
    if (!document.hidden) {
      let more = await followRuns();
      chooseMetrics();
      drawTables();
      more = (await followCurves()) || more;
      drawCharts();
      await followDifferences();
      if (more) wait = 0;
      sayConnected(true);
    }
  } catch {
    sayConnected(false);
  }
  timer = setTimeout(follow, wait);
}

let timer = null;

/** Ask at once: the reader has chosen something else. */
function followNow() {
  writeAddress(compared().map((run) => run.name), areChosen);
  drawTables();
  drawCharts();
  clearTimeout(timer);
  timer = setTimeout(follow, 0);
}

function sayConnected(isConnected) {
  const place = byId("connection");
  const wasLost = place.classList.contains("lost");
  place.classList.toggle("lost", !isConnected);
  const now = new Date().toLocaleTimeString("en", { hour12: false });
  place.textContent = isConnected ? `Live, updated ${now}` : "ganscale watch does not answer; trying again";
  if (wasLost === isConnected) byId("announcement").textContent = isConnected ? "Connected again" : place.textContent;
}

function chooseMetrics() {
  const names = metricNames();
  if (!choices.metrics && names.length) choices.metrics = new Set(firstMetrics(names));
  // A first evaluation adds its scores, unless the reader has chosen.
  else if (choices.metrics && !areChosen.metrics) {
    for (const name of firstMetrics(names)) choices.metrics.add(name);
  }
}

function drawTables() {
  const all = [...runs.values()];
  for (const part of document.querySelectorAll("[data-with-runs]")) part.hidden = !all.length;
  byId("nothing").hidden = all.length > 0;
  const training = all.filter((run) => run.state === "running").length;
  document.title = `${training ? `${count(training)} running · ` : ""}ganscale watch`;
  allRuns.update(runColumns(chooseRun), all);
  drawLegend(compared(), drawChoice);
  menu.draw(metricNames());
  const scored = all.filter((run) => run.scores && Object.keys(run.scores.values).length);
  byId("scores-section").hidden = !scored.length;
  if (scored.length) scores.update(scoreColumns(scored), scored);
  samples.update(compared(), seen.session);
}

function chooseRun(number, isShown) {
  areChosen.runs = true;
  show(number, isShown);
  followNow();
}

function drawCharts() {
  const metrics = [...(choices.metrics ?? [])].filter((metric) => hasCurve(metric));
  byId("no-curves").hidden = metrics.length > 0;
  byId("whole").hidden = !choices.zoom;
  for (const [metric, chart] of charts) {
    if (metrics.includes(metric)) continue;
    chart.figure.remove();
    charts.delete(metric);
  }
  choices.extent = furthest();
  metrics.forEach((metric, place) => {
    if (!charts.has(metric)) charts.set(metric, new Chart(metric, zoom));
    const chart = charts.get(metric);
    const host = byId("charts");
    if (host.children[place] !== chart.figure) host.insertBefore(chart.figure, host.children[place] ?? null);
    const drawn = compared().map((run) => {
      const curve = curves.get(keyOf(run.number, metric)) ?? { x: [], y: [] };
      return { ...curve, run: run.number, name: run.name, slot: choices.slots.get(run.number) };
    });
    chart.update(drawn);
  });
}

/** Return how far along the horizontal axis the runs have come. */
function furthest() {
  const ends = [...curves.values()].map((curve) => curve.x.at(-1) ?? 0);
  return Math.max(...ends) || 1;
}

const hasCurve = (metric) => compared().some((run) => curves.get(keyOf(run.number, metric))?.x.length);

/** Draw again what depends on which runs are hidden or highlighted. */
function drawChoice() {
  drawCharts();
  samples.update(compared(), seen.session);
}

function chooseMetric() {
  areChosen.metrics = true;
  followNow();
}

function zoom(part) {
  choices.zoom = part;
  drawCharts();
}

function listen() {
  byId("x").querySelector(`[value=${choices.x}]`).checked = true;
  byId("x").addEventListener("change", (event) => {
    Object.assign(choices, { x: event.target.value, zoom: null });
    curves = new Map();
    followNow();
  });
  byId("log").checked = choices.log;
  byId("log").addEventListener("change", (event) => {
    choices.log = event.target.checked;
    followNow();
  });
  byId("smoothing").value = choices.smoothing;
  byId("smoothing").addEventListener("input", (event) => {
    choices.smoothing = Number(event.target.value);
    writeAddress(compared().map((run) => run.name), areChosen);
    drawCharts();
  });
  byId("whole").addEventListener("click", () => zoom(null));
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) followNow();
  });
}

readAddress();
Object.assign(areChosen, { metrics: choices.metrics !== null, runs: location.hash.includes("run=") });
listen();
follow();
