// A table that a click on a heading sorts, and whose rows are updated in place: the focus stays.

import { element } from "./elements.js";

/**
 * A column has a `title`, and of a row its `value`, by which it sorts and whose change redraws the
 * cell, and its `cell`, a text or an element.
 */
export class SortableTable {
  constructor(table, name) {
    this.head = element("tr");
    this.body = element("tbody");
    table.append(
      element("caption", { class: "unseen" }, name),
      element("thead", {}, this.head),
      this.body,
    );
    this.columns = [];
    this.rows = [];
    this.shown = new Map();
    this.sorted = null;
  }

  update(columns, rows) {
    this.rows = rows;
    if (columns.map((c) => c.title).join("\0") !== this.columns.map((c) => c.title).join("\0")) {
      this.shown.clear();
      this.body.replaceChildren();
      this.columns = columns;
      this.drawHead();
    }
    this.columns = columns;
    this.drawRows();
  }

  drawHead() {
    this.head.replaceChildren(
      ...this.columns.map((column, i) => {
        const button = element("button", { type: "button" }, column.title);
        button.addEventListener("click", () => this.sortBy(i));
        return element("th", { scope: "col", class: column.number ? "number" : "text" }, button);
      }),
    );
  }

  sortBy(i) {
    const same = this.sorted?.i === i;
    // Numbers are mostly looked up from the greatest.
    const descending = same ? !this.sorted.descending : Boolean(this.columns[i].greatestFirst);
    this.sorted = { i, descending };
    [...this.head.children].forEach((th, n) => {
      if (n === i) th.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    });
    this.drawRows();
  }

  inOrder() {
    if (!this.sorted) return this.rows;
    const { i, descending } = this.sorted;
    const value = this.columns[i]?.value ?? (() => null);
    const isMissing = (v) => v === null || v === undefined;
    return [...this.rows].sort((first, second) => {
      const [a, b] = [value(first), value(second)];
      if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
      const order = typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en");
      return descending ? -order : order;
    });
  }

  drawRows() {
    const rows = this.inOrder();
    const numbers = new Set(rows.map((row) => row.number));
    for (const [number, shown] of this.shown) {
      if (!numbers.has(number)) {
        shown.tr.remove();
        this.shown.delete(number);
      }
    }
    const focused = document.activeElement;
    rows.forEach((row, place) => {
      const shown = this.shown.get(row.number) ?? this.addRow(row.number);
      this.columns.forEach((column, i) => {
        const now = JSON.stringify([column.value(row), column.extra?.(row)]);
        if (shown.values[i] === now) return;
        shown.values[i] = now;
        shown.tr.cells[i].replaceChildren(column.cell(row));
        shown.tr.cells[i].classList.toggle("best", Boolean(column.isBest?.(row)));
      });
      if (this.body.children[place] !== shown.tr) {
        this.body.insertBefore(shown.tr, this.body.children[place] ?? null);
      }
    });
    if (focused && focused !== document.activeElement && this.body.contains(focused)) {
      focused.focus({ preventScroll: true });
    }
  }

  addRow(number) {
    const tr = element("tr");
    this.columns.forEach((column, i) => {
      const kind = { class: column.number ? "number" : "text" };
      tr.append(element(i ? "td" : "th", i ? kind : { scope: "row", ...kind }));
    });
    const shown = { tr, values: [] };
    this.shown.set(number, shown);
    return shown;
  }
}
