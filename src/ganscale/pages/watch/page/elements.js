// Elements of the page. Text is only ever set as text: names come from the files of runs.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** Return an element with properties (`class`, `aria-…` and `data-…` as attributes) and children. */
export function element(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** Return an element of an SVG. */
export function shape(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children, true);
}

function fill(made, properties, children, onlyAttributes = false) {
  for (const [name, value] of Object.entries(properties)) {
    if (onlyAttributes || name === "class" || name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** Return the stroke by which a run is known everywhere: its colour, and after ten a dash. */
export function lineOf(slot) {
  const dashes = ["", "6 3", "2 3", "8 3 2 3"];
  return { colour: `var(--run-${slot % 10})`, dash: dashes[Math.floor(slot / 10) % 4] };
}

/** Return the small piece of line beside a run's name. */
export function swatch(slot) {
  const made = element("span", { class: "swatch", "aria-hidden": "true" });
  if (slot !== undefined) {
    const { colour, dash } = lineOf(slot);
    made.style.background = dash
      ? `repeating-linear-gradient(90deg, ${colour} 0 4px, transparent 4px 7px)`
      : colour;
  }
  return made;
}
