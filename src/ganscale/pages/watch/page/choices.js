// What the reader has chosen. It stands in the address, so that a reload or a link keeps it.

const SHOWN_AT_FIRST = 8;

export const choices = {
  x: "images",
  log: false,
  smoothing: 0,
  extent: 1, // of the horizontal axis, from 0: the same in all charts
  zoom: null, // [from, to], the part of it that is shown
  metrics: null, // null until there are some to choose from
  shown: new Set(), // the runs that are compared
  hidden: new Set(), // those of them that the charts leave out for now
  highlighted: null,
  slots: new Map(), // the line of each run that is compared
};

let wantedRuns = null; // names in the address, until their runs are found

export function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (["images", "steps", "hours"].includes(given.get("x"))) choices.x = given.get("x");
  choices.log = given.get("log") === "1";
  const smoothing = Number(given.get("smoothing"));
  if (smoothing > 0 && smoothing < 1) choices.smoothing = smoothing;
  if (given.has("metric")) choices.metrics = new Set(given.getAll("metric"));
  if (given.has("run")) wantedRuns = new Set(given.getAll("run"));
}

/** Write the choices into the address; `names` are those of the runs that are compared. */
export function writeAddress(names, areChosen) {
  const given = new URLSearchParams();
  if (choices.x !== "images") given.set("x", choices.x);
  if (choices.log) given.set("log", "1");
  if (choices.smoothing) given.set("smoothing", String(choices.smoothing));
  if (areChosen.metrics) for (const metric of choices.metrics) given.append("metric", metric);
  if (areChosen.runs) for (const name of names) given.append("run", name);
  history.replaceState(null, "", `#${given}`);
}

export function show(run, isShown) {
  if (!isShown) {
    for (const set of [choices.shown, choices.hidden, choices.slots]) set.delete(run);
    return;
  }
  choices.shown.add(run);
  const taken = new Set(choices.slots.values());
  let slot = 0;
  while (taken.has(slot)) slot += 1;
  if (!choices.slots.has(run)) choices.slots.set(run, slot);
}

/** Show runs that have just been found: those of the address, or the newest few. */
export function showFound(found, isFirst) {
  if (wantedRuns) {
    for (const run of found) if (wantedRuns.has(run.name)) show(run.number, true);
    if (choices.shown.size || !isFirst) return;
  }
  const newest = [...found].sort((a, b) => (b.logged_at ?? 0) - (a.logged_at ?? 0));
  const room = SHOWN_AT_FIRST - choices.shown.size;
  const chosen = new Set(newest.slice(0, Math.max(0, room)));
  for (const run of found) if (chosen.has(run)) show(run.number, true);
}
