// The grids of samples of all runs that are compared, after as many images seen.

import { choices } from "./choices.js";
import { byId, element, swatch } from "./elements.js";
import { count } from "./words.js";

const EACH_MS = 600; // while playing

export class Samples {
  constructor() {
    this.figures = new Map();
    this.stops = [];
    this.runs = [];
    this.isAtEnd = true;
    this.timer = null;
    this.slider = byId("time");
    this.slider.addEventListener("input", () => {
      this.isAtEnd = Number(this.slider.value) === this.stops.length - 1;
      this.draw();
    });
    byId("play").addEventListener("click", () => this.play());
  }

  /** Show the grids of runs, `session` being the server's, whose numbers of runs are its own. */
  update(runs, session) {
    this.runs = runs.filter((run) => run.grids.length && !choices.hidden.has(run.number));
    this.session = session;
    const at = this.stops[Number(this.slider.value)];
    const images = this.runs.flatMap((run) => run.grids.map(([, seen]) => seen));
    this.stops = [...new Set(images)].sort((a, b) => a - b);
    byId("samples").hidden = !this.stops.length;
    if (!this.stops.length) return;
    const last = this.stops.length - 1;
    const kept = this.stops.findLastIndex((stop) => stop <= at);
    this.slider.max = last;
    this.slider.value = this.isAtEnd ? last : Math.max(0, kept);
    this.draw();
  }

  draw() {
    const at = this.stops[Number(this.slider.value)];
    const words = `${count(at)} images`;
    byId("time-shown").textContent = words;
    this.slider.setAttribute("aria-valuetext", words);
    for (const [number, shown] of this.figures) {
      if (this.runs.some((run) => run.number === number)) continue;
      shown.figure.remove();
      this.figures.delete(number);
    }
    this.runs.forEach((run, place) => {
      const shown = this.figures.get(run.number) ?? this.add(run);
      const grid = run.grids.findLast(([, images]) => images <= at);
      shown.button.hidden = !grid;
      shown.absent.hidden = Boolean(grid);
      shown.name.replaceChildren(swatch(choices.slots.get(run.number)), run.name);
      shown.words.textContent = grid ? `${count(grid[1])} images, step ${count(grid[0])}` : "";
      if (grid) {
        const address = `/grids/${run.number}/${grid[0]}?${this.session}`;
        if (shown.picture.getAttribute("src") !== address) shown.picture.src = address;
        shown.picture.alt = `Samples of ${run.name} after ${count(grid[1])} images`;
      }
      const host = byId("grids");
      if (host.children[place] !== shown.figure) host.insertBefore(shown.figure, host.children[place] ?? null);
    });
  }

  add(run) {
    const picture = element("img", { loading: "lazy" });
    const button = element("button", { type: "button" }, picture);
    const absent = element("p", { class: "absent card muted" }, "no samples so early");
    const [name, words] = [element("strong"), element("span")];
    const caption = element("figcaption", {}, name, words);
    const figure = element("figure", {}, caption, button, absent);
    button.addEventListener("click", () => enlarge(picture, `${run.name}: ${words.textContent}`));
    const shown = { figure, picture, button, absent, name, words };
    this.figures.set(run.number, shown);
    return shown;
  }

  play() {
    const button = byId("play");
    const isPlaying = this.timer === null;
    button.setAttribute("aria-pressed", String(isPlaying));
    button.textContent = isPlaying ? "Pause" : "Play";
    clearInterval(this.timer);
    this.timer = isPlaying ? setInterval(() => this.step(), EACH_MS) : null;
  }

  step() {
    const next = (Number(this.slider.value) + 1) % this.stops.length;
    this.slider.value = next;
    this.isAtEnd = next === this.stops.length - 1;
    this.draw();
  }
}

function enlarge(picture, words) {
  const dialog = byId("enlarged");
  const large = dialog.querySelector("img");
  [large.src, large.alt] = [picture.src, picture.alt];
  dialog.querySelector("p").textContent = words;
  dialog.showModal();
}
