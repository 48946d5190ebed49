// The columns of the tables of runs and of scores.

import { choices } from "./choices.js";
import { element, swatch } from "./elements.js";
import { brief, count, duration } from "./words.js";

/** Return the columns of the table of all runs; `onShow(number, isShown)` is called on a click. */
export function runColumns(onShow) {
  return [
    {
      title: "Run",
      value: (run) => run.name,
      extra: (run) => [choices.shown.has(run.number), choices.slots.get(run.number)],
      cell: (run) => {
        const box = element("input", { type: "checkbox", checked: choices.shown.has(run.number) });
        box.addEventListener("change", () => onShow(run.number, box.checked));
        return element("label", {}, box, swatch(choices.slots.get(run.number)), run.name);
      },
    },
    {
      title: "State",
      value: (run) => run.state,
      extra: (run) => run.problem,
      cell: (run) => {
        const word = element("span", { class: `state ${run.state}` }, run.state);
        const problem = run.problem ? element("span", { class: "problem" }, run.problem) : "";
        return element("span", {}, word, problem);
      },
    },
    {
      title: "Progress",
      value: (run) => (run.steps ? run.step / run.steps : null),
      extra: (run) => [run.step, run.steps],
      greatestFirst: true,
      cell: progress,
    },
    {
      title: "Time left",
      value: (run) => run.seconds_left,
      number: true,
      cell: (run) => duration(run.seconds_left),
    },
    {
      title: "Images/s",
      value: (run) => run.images_per_second,
      number: true,
      greatestFirst: true,
      cell: (run) => (run.images_per_second === null ? "–" : count(run.images_per_second)),
    },
  ];
}

function progress(run) {
  if (run.step === null) return "–";
  const words = run.steps ? `${count(run.step)} of ${count(run.steps)}` : count(run.step);
  const bar = element("progress", { max: run.steps || 1, value: run.step, "aria-label": `Progress of ${run.name}` });
  return element("span", {}, ...(run.steps ? [bar] : []), words);
}

/** Return the columns of the table of scores: one for each metric of the runs in it. */
export function scoreColumns(runs) {
  const deciding = runs.map((run) => run.best);
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.scores.values)))];
  names.sort((a, b) => deciding.includes(b) - deciding.includes(a));
  const best = new Map(names.map((name) => [name, bestOf(runs, name)]));
  return [
    {
      title: "Run",
      value: (run) => run.name,
      extra: (run) => choices.slots.get(run.number),
      cell: (run) => element("label", {}, swatch(choices.slots.get(run.number)), run.name),
    },
    ...names.map((name) => scoreColumn(name, best.get(name))),
    { title: "At step", value: (run) => run.scores.step, number: true, cell: (run) => count(run.scores.step) },
    { title: "Scored with", value: (run) => run.scores.basis, cell: (run) => run.scores.basis },
  ];
}

function scoreColumn(name, best) {
  const isBest = (run) => best.has(run.number);
  return {
    title: name,
    value: (run) => run.scores.values[name]?.value ?? null,
    extra: isBest,
    number: true,
    isBest,
    cell: (run) => {
      const value = brief(run.scores.values[name]?.value);
      if (!isBest(run)) return value;
      const star = element("span", { "aria-hidden": "true" }, "★ ");
      return element("span", {}, star, value, element("span", { class: "unseen" }, " (best)"));
    },
  };
}

/** Return the runs with the best value among those, at least two, that were scored alike. */
function bestOf(runs, name) {
  const alike = new Map();
  for (const run of runs) {
    const score = run.scores.values[name];
    if (!score) continue;
    alike.set(run.scores.basis, [...(alike.get(run.scores.basis) ?? []), { run, ...score }]);
  }
  const found = new Set();
  for (const group of alike.values()) {
    if (group.length < 2) continue;
    const values = group.map((score) => score.value);
    const best = group[0].lower_is_better ? Math.min(...values) : Math.max(...values);
    for (const score of group) if (score.value === best) found.add(score.run.number);
  }
  return found;
}
