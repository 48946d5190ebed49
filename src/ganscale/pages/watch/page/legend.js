// A button for each run that is compared, which hides it in the charts or brings it back.

import { choices } from "./choices.js";
import { byId, element, swatch } from "./elements.js";

/** Draw the buttons, unless these are the same as before; `onChange` is called on a choice. */
export function drawLegend(runs, onChange) {
  const legend = byId("legend");
  const now = JSON.stringify(runs.map((run) => [run.number, run.name, choices.slots.get(run.number)]));
  if (legend.dataset.runs === now) return;
  legend.dataset.runs = now;
  legend.replaceChildren(...runs.map((run) => makeButton(run, onChange)));
}

function makeButton(run, onChange) {
  const isDrawn = String(!choices.hidden.has(run.number));
  const line = swatch(choices.slots.get(run.number));
  const button = element("button", { type: "button", "aria-pressed": isDrawn }, line, run.name);
  button.addEventListener("click", () => {
    const isHidden = !choices.hidden.delete(run.number);
    if (isHidden) choices.hidden.add(run.number);
    button.setAttribute("aria-pressed", String(!isHidden));
    onChange();
  });
  const highlight = (number) => {
    choices.highlighted = number;
    onChange();
  };
  button.addEventListener("pointerenter", () => highlight(run.number));
  button.addEventListener("pointerleave", () => highlight(null));
  return button;
}
