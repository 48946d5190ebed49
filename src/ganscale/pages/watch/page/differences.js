// What differs in the configurations of the runs that are compared.

import { choices } from "./choices.js";
import { byId, element, swatch } from "./elements.js";

/** Draw the server's answer; `runs` are the runs that were asked about. */
export function drawDifferences(answer, runs) {
  const known = answer.runs.map((number) => runs.find((run) => run.number === number)).filter(Boolean);
  const missing = byId("no-differences");
  byId("differences-card").hidden = !answer.rows.length;
  missing.hidden = answer.rows.length > 0;
  missing.textContent =
    known.length < 2
      ? "Choose two runs or more in the table above to see what differs."
      : "These runs have the same configuration.";
  const heads = known.map((run) =>
    element("th", { scope: "col" }, swatch(choices.slots.get(run.number)), ` ${run.name}`),
  );
  const rows = answer.rows.map(({ key, values }) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, key),
      ...values.map((value) => element("td", {}, value === null ? "–" : element("code", {}, value))),
    ),
  );
  byId("differences").replaceChildren(
    element("caption", { class: "unseen" }, "Values of each run by their key"),
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Key"), ...heads)),
    element("tbody", {}, ...rows),
  );
}
