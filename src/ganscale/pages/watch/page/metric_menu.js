// The menu of metrics: which are drawn, and a field to find one by its name.

import { choices } from "./choices.js";
import { byId, element } from "./elements.js";

export class MetricMenu {
  /** `onChoose` is called when the reader has chosen. */
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.list = byId("metric-list");
    this.legend = this.list.firstElementChild;
    this.names = "";
    byId("find").addEventListener("input", () => this.filter());
    const menu = byId("metrics");
    document.addEventListener("click", (event) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      menu.open = false;
      menu.querySelector("summary").focus();
    });
  }

  /** Show the metrics that there are, and those that are chosen though there are none yet. */
  draw(known) {
    const names = [...new Set([...known, ...(choices.metrics ?? [])])].sort();
    const now = JSON.stringify(names);
    if (this.names !== now) {
      this.names = now;
      this.list.replaceChildren(this.legend, ...names.map((name) => this.choice(name)));
      this.filter();
    }
    for (const label of this.labels()) {
      label.firstElementChild.checked = Boolean(choices.metrics?.has(label.dataset.metric));
    }
  }

  labels() {
    return this.list.querySelectorAll("label");
  }

  choice(name) {
    const box = element("input", { type: "checkbox" });
    const label = element("label", {}, box, name);
    label.dataset.metric = name;
    box.addEventListener("change", () => {
      if (box.checked) choices.metrics.add(name);
      else choices.metrics.delete(name);
      this.onChoose();
    });
    return label;
  }

  filter() {
    const wanted = byId("find").value.toLowerCase();
    for (const label of this.labels()) {
      label.hidden = !label.dataset.metric.toLowerCase().includes(wanted);
    }
  }
}
