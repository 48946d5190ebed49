// One metric of all runs that are compared, over images, steps or hours.

import { logTicks, nearest, scale, smooth, ticks } from "./axes.js";
import { choices } from "./choices.js";
import { element, lineOf, shape, swatch } from "./elements.js";
import { brief, meaning, place, tick } from "./words.js";

const HEIGHT = 220;
const MARGIN = { left: 50, right: 14, top: 10, bottom: 26 };
const FEW_POINTS = 30; // up to so many are marked one by one
const DRAGGED = 6; // pixels, from which on a drag is not a click

export class Chart {
  /** `onZoom` is called with the part of the horizontal axis to show, or null for all. */
  constructor(metric, onZoom) {
    this.metric = metric;
    this.onZoom = onZoom;
    this.curves = [];
    this.at = null; // where the cursor stands on the horizontal axis
    this.dragged = null;
    this.svg = shape("svg", { class: "plot", role: "img", tabindex: "0" });
    this.readout = element("div", { class: "readout", role: "status", hidden: true });
    const title = element("figcaption", {}, element("h3", {}, metric), meaning(metric));
    this.figure = element("figure", { class: "card chart" }, title, this.svg, this.readout);
    this.figure.dataset.metric = metric;
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  /** Show curves: `{name, slot, run, x, y, low, high}`. */
  update(curves) {
    this.curves = curves;
    this.draw();
  }

  visible() {
    return this.curves
      .filter((curve) => !choices.hidden.has(curve.run) && curve.x.length)
      .map((curve) => ({ ...curve, drawn: smooth(curve.y, choices.smoothing) }));
  }

  draw() {
    const width = this.svg.clientWidth;
    if (!width) return;
    this.seen = this.visible();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("aria-label", this.inWords());
    const box = this.bounds(this.seen);
    if (!box) {
      const nothing = shape("text", { x: MARGIN.left, y: HEIGHT / 2 }, "no values in this part");
      this.svg.replaceChildren(nothing);
      this.cursor = null;
      return;
    }
    this.x = scale(box.x[0], box.x[1], MARGIN.left, width - MARGIN.right);
    this.y = scale(box.y[0], box.y[1], HEIGHT - MARGIN.bottom, MARGIN.top, box.isLog);
    this.span = { from: box.x[0], to: box.x[1], width };
    const clip = `clip-${this.metric}`.replace(/[^\w-]/g, "_");
    const inside = { x: MARGIN.left - 4, y: 0, width: width - MARGIN.left - MARGIN.right + 8 };
    const lines = shape("g", { "clip-path": `url(#${clip})` });
    this.seen.forEach((curve) => lines.append(...this.line(curve, box.isLog)));
    this.cursor = shape("g");
    this.svg.replaceChildren(
      shape("clipPath", { id: clip }, shape("rect", { ...inside, height: HEIGHT })),
      ...this.rules(box, width),
      lines,
      this.cursor,
    );
    this.drawCursor();
  }

  bounds(curves) {
    const [from, to] = choices.zoom ?? [-Infinity, Infinity];
    let [y0, y1, least] = [Infinity, -Infinity, Infinity];
    for (const curve of curves) {
      curve.x.forEach((x, i) => {
        const y = curve.drawn[i];
        if (x === null || y === null || x < from || x > to) return;
        [y0, y1] = [Math.min(y0, y), Math.max(y1, y)];
        if (y > 0) least = Math.min(least, y);
      });
    }
    if (!(y0 <= y1)) return null;
    const x = choices.zoom ?? [0, choices.extent];
    const isLog = choices.log && least < Infinity;
    if (isLog) return { x, y: [least / 1.1, Math.max(y1, least) * 1.1], isLog };
    const margin = (y1 - y0) * 0.06 || Math.abs(y0) * 0.1 || 1;
    return { x, y: [y0 - margin, y1 + margin], isLog };
  }

  rules(box, width) {
    const bottom = HEIGHT - MARGIN.bottom;
    const across = box.isLog ? logTicks(...box.y) : ticks(...box.y, 4);
    const along = ticks(...box.x, Math.max(2, Math.floor(width / 95)));
    return [
      ...across.flatMap((value) => {
        const y = this.y(value);
        const rule = { class: "rule", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y };
        const label = { x: MARGIN.left - 7, y: y + 4, "text-anchor": "end" };
        return [shape("line", rule), shape("text", label, tick(value))];
      }),
      ...along.map((value) => {
        const x = Math.min(this.x(value), width - MARGIN.right - 8);
        return shape("text", { x, y: bottom + 18, "text-anchor": "middle" }, tick(value));
      }),
    ];
  }

  line(curve, isLog) {
    const { colour, dash } = lineOf(curve.slot);
    const other = choices.highlighted !== null && choices.highlighted !== curve.run;
    const faded = other ? " faded" : "";
    const style = { stroke: colour, "stroke-dasharray": dash, "data-run": curve.run };
    const parts = [];
    if (curve.low && !choices.smoothing) {
      const d = this.area(curve.x, curve.low, curve.high, isLog);
      parts.push(shape("path", { class: `range${faded}`, fill: colour, d }));
    }
    if (choices.smoothing) {
      parts.push(shape("path", { class: `raw${faded}`, stroke: colour, d: this.path(curve.x, curve.y, isLog) }));
    }
    const d = this.path(curve.x, curve.drawn, isLog);
    parts.push(shape("path", { class: `line${faded}`, ...style, d }));
    if (curve.x.length <= FEW_POINTS) {
      curve.x.forEach((x, i) => {
        const y = curve.drawn[i];
        if (x === null || y === null || (isLog && y <= 0)) return;
        const spot = { cx: this.x(x), cy: this.y(y), r: 2.4, fill: colour };
        parts.push(shape("circle", { class: `spot${faded}`, ...spot }));
      });
    }
    return parts;
  }

  path(xs, ys, isLog) {
    let [d, pen] = ["", "M"];
    for (let i = 0; i < xs.length; i += 1) {
      const y = ys[i];
      if (y === null || xs[i] === null || (isLog && y <= 0)) pen = "M";
      else {
        d += `${pen}${this.x(xs[i]).toFixed(1)} ${this.y(y).toFixed(1)}`;
        pen = "L";
      }
    }
    return d;
  }

  area(xs, low, high, isLog) {
    const there = xs.map((_, i) => i).filter((i) => low[i] !== null && (!isLog || low[i] > 0));
    if (!there.length) return "";
    const point = (i, of) => `${this.x(xs[i]).toFixed(1)} ${this.y(of[i]).toFixed(1)}`;
    const back = [...there].reverse().map((i) => point(i, low));
    return `M${[...there.map((i) => point(i, high)), ...back].join("L")}Z`;
  }

  inWords() {
    const newest = this.seen.map((curve) => {
      const value = curve.y.findLast((y) => y !== null);
      return `${curve.name} ${brief(value)}`;
    });
    const keys = "Arrow keys read values, plus and minus zoom.";
    return `${this.metric}, newest values: ${newest.join("; ") || "none"}. ${keys}`;
  }

  listen() {
    const svg = this.svg;
    svg.addEventListener("pointermove", (event) => this.point(event));
    svg.addEventListener("pointerleave", () => this.dragged === null && this.moveTo(null));
    svg.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch" || event.button || !this.span) return;
      svg.setPointerCapture(event.pointerId);
      this.dragged = { from: event.offsetX, to: event.offsetX };
    });
    svg.addEventListener("pointerup", () => this.endDrag());
    svg.addEventListener("pointercancel", () => (this.dragged = null));
    svg.addEventListener("dblclick", () => this.onZoom(null));
    svg.addEventListener("blur", () => this.moveTo(null));
    svg.addEventListener("keydown", (event) => this.press(event));
  }

  point(event) {
    if (!this.span) return;
    if (this.dragged) this.dragged.to = event.offsetX;
    this.moveTo(this.valueAt(event.offsetX));
  }

  valueAt(pixel) {
    const { from, to, width } = this.span;
    const part = (pixel - MARGIN.left) / (width - MARGIN.left - MARGIN.right);
    return from + Math.min(1, Math.max(0, part)) * (to - from);
  }

  endDrag() {
    const dragged = this.dragged;
    this.dragged = null;
    if (dragged && Math.abs(dragged.to - dragged.from) > DRAGGED) {
      const ends = [this.valueAt(dragged.from), this.valueAt(dragged.to)];
      this.onZoom(ends.sort((a, b) => a - b));
    } else this.drawCursor();
  }

  press(event) {
    if (!this.span || event.ctrlKey || event.metaKey || event.altKey) return;
    const longest = this.seen.reduce((a, b) => (b.x.length > a.x.length ? b : a), this.seen[0]);
    const { from, to } = this.span;
    const inside = longest.x.filter((x) => x >= from && x <= to);
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
    const i = this.at === null ? inside.length - 1 : nearest(inside, this.at);
    const middle = this.at ?? (from + to) / 2;
    if (event.key in moves) {
      const next = this.at === null ? i : i + moves[event.key];
      this.moveTo(inside[Math.min(inside.length - 1, Math.max(0, next))] ?? null);
    } else if (event.key === "Home") this.moveTo(inside[0] ?? null);
    else if (event.key === "End") this.moveTo(inside.at(-1) ?? null);
    else if (event.key === "+") this.onZoom([middle - (middle - from) / 2, middle + (to - middle) / 2]);
    else if (event.key === "-" || event.key === "Escape") this.onZoom(null);
    else return;
    event.preventDefault();
  }

  moveTo(x) {
    this.at = x;
    this.drawCursor();
  }

  drawCursor() {
    if (!this.cursor) return;
    this.readout.hidden = this.at === null;
    if (this.at === null) {
      this.cursor.replaceChildren();
      return;
    }
    const { x: here, values } = this.valuesAt(this.at);
    const x = this.x(here);
    const marks = [shape("line", { class: "cursor", x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom })];
    for (const { curve, x: at, y } of values) {
      if (y === null || !Number.isFinite(this.y(y))) continue;
      marks.push(shape("circle", { cx: this.x(at), cy: this.y(y), r: 3.5, fill: lineOf(curve.slot).colour }));
    }
    if (this.dragged) {
      const [from, to] = [this.dragged.from, this.dragged.to].sort((a, b) => a - b);
      const size = { x: from, width: to - from, y: MARGIN.top, height: HEIGHT - MARGIN.top - MARGIN.bottom };
      marks.push(shape("rect", { class: "brush", ...size }));
    }
    this.cursor.replaceChildren(...marks);
    this.readout.replaceChildren(
      element("p", {}, place(choices.x, here)),
      ...values.map(({ curve, y }) =>
        element("p", {}, swatch(curve.slot), element("span", { class: "name" }, curve.name), element("b", {}, brief(y))),
      ),
    );
    const isRight = x > this.span.width / 2;
    this.readout.style.left = isRight ? "3.9rem" : "auto";
    this.readout.style.right = isRight ? "auto" : "1.6rem";
  }

  /** Return the nearest point of each curve that has come that far, the greatest value first. */
  valuesAt(at) {
    const points = this.seen.map((curve) => {
      const i = nearest(curve.x, at);
      return { curve, x: curve.x[i], y: curve.drawn[i], distance: Math.abs(curve.x[i] - at) };
    });
    const closest = points.reduce((a, b) => (b.distance < a.distance ? b : a), points[0]);
    const near = closest.distance + (this.span.to - this.span.from) / 50;
    const values = points.filter((point) => point.distance <= near);
    return { x: closest.x, values: values.sort((a, b) => (b.y ?? -Infinity) - (a.y ?? -Infinity)) };
  }
}
