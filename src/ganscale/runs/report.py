"""`report.html`: a run in one self-contained file, which needs neither W&B nor a network."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from ganscale.config import Experiment
from ganscale.config.load import to_yaml
from ganscale.evaluation.metrics.metric import METRICS
from ganscale.evaluation.scores import (
    MAX_DETAILS,
    Evaluated,
    best,
    curve,
    describe_scores,
    read_evaluations,
    title_of,
)
from ganscale.files import write_atomically
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.registry import log_name
from ganscale.runs.run_folder import RunFolder
from ganscale.terminal import printable

MAX_PICTURES = 60  # of a longer run, the report shows every n-th picture
MAX_DRAWN = 1e300  # matplotlib's axes overflow for larger values
GAME: dict[str, tuple[str, ...]] = {
    "Losses": ("loss_discriminator", "loss_generator"),
    "Mean output of the discriminator: 1 means real": ("d_real", "d_fake"),
    "Accuracy of the discriminator": ("d_accuracy", "balance_accuracy"),
}
MACHINERY: dict[str, tuple[str, ...]] = {
    "Learning rates": ("learning_rate_generator", "learning_rate_discriminator"),
    "Factors of the balance on the learning rates": ("balance_generator", "balance_discriminator"),
    "Betas": tuple(f"beta{i}_{name}" for name in ("generator", "discriminator") for i in (1, 2)),
    "Half-life of the average, images": ("ema_half_life",),
    "Probability of augmentation": ("augment_probability",),
    "Standard deviation of instance noise": ("augment_noise_std",),
    "Gradient norms": ("gradient_norm_discriminator", "gradient_norm_generator"),
    "Images per second": ("images_per_second",),
}


def write_report(run: RunFolder, experiment: Experiment, environment: dict[str, str]) -> Path:
    """Write the report of a run from the files in its folder; return its path."""
    metrics = read_metrics(run.metrics)
    evaluations = read_evaluations(run.evaluations)
    measured = _with_scores(metrics, curve(evaluations, experiment.evaluation))
    charts = [_chart(title, keys, measured) for title, keys in _charts(experiment).items()]
    pictures = run.sample_grids()
    stride = -(-len(pictures) // MAX_PICTURES) if pictures else 1
    shown = [*pictures[:-1:stride], *pictures[-1:]]
    frames = [
        {"step": step, "png": base64.b64encode(run.read(path)).decode()} for step, path in shown
    ]
    last = metrics[-1] if metrics else {}
    scored = best(evaluations, experiment.evaluation)
    facts = {
        "steps": f"{last.get('step', 0):,}",
        "images seen": f"{last.get('images', 0):,}",
        **_scores(evaluations, scored, experiment),
    }
    page = Template(_PAGE).substitute(
        title=html.escape(experiment.name),
        facts=_table(facts),
        frames=json.dumps(frames),
        charts="\n".join(filter(None, charts)),
        pictured="The last checkpoint" if scored is None else "The best checkpoint",
        gallery=_gallery(run),
        experiment=html.escape(to_yaml(experiment)),
        environment=_table(environment),
    )
    write_atomically(run.report, page.encode())
    return run.report


def _charts(experiment: Experiment) -> dict[str, tuple[str, ...]]:
    """Return the heading of each chart, with the names of the numbers that it shows."""
    scores: dict[str, tuple[str, ...]] = {}
    for name in METRICS.built_in():
        if heading := METRICS.get(name).chart:
            scores[heading] = (*scores.get(heading, ()), name)
    asked = map(log_name, experiment.evaluation.metrics)
    more = {name: (name,) for name in asked if not any(name in keys for keys in scores.values())}
    penalties = [penalty.name for penalty in experiment.objective.penalties]
    return {
        **GAME,
        **scores,
        **more,
        **MACHINERY,
        "Penalties before their weight": tuple(f"penalty_{name}" for name in penalties),
        "Weights of penalties": tuple(f"penalty_weight_{name}" for name in penalties),
    }


def _with_scores(
    metrics: Sequence[Mapping[str, Any]], evaluations: Sequence[Evaluated]
) -> list[dict[str, Any]]:
    """Return what was logged, with the scores of these evaluations in place of the logged ones.

    They are those of training and those made afterwards.
    """
    points = [{"images": e.get("images"), **e["values"]} for e in evaluations]
    names = {name for point in points for name in point} - {"images"}
    kept = [{key: line[key] for key in line if key not in names} for line in metrics]
    return [*kept, *points]


def _scores(
    evaluations: list[dict[str, Any]], found: Mapping[str, Any] | None, experiment: Experiment
) -> dict[str, str]:
    """Describe the best evaluation, and the newest one if it is a different one."""
    if found is None:
        return {"scores": "not evaluated"}
    chosen = {f"best {title_of(experiment.evaluation.best)}": found}
    if evaluations[-1] is not found:
        chosen["newest evaluation"] = evaluations[-1]
    lines = {name: f"step {e['step']:,}: {describe_scores(e)}" for name, e in chosen.items()}
    for name, details in found.get("details", {}).items():
        if len(details) > MAX_DETAILS:  # fewer stand beside the value
            listed = ", ".join(f"{what} {value:.4g}" for what, value in details.items())
            lines[f"{title_of(name)} in detail"] = listed
    return lines


def _gallery(run: RunFolder) -> str:
    """Return the HTML of the gallery's pictures, embedded."""
    captions = {
        run.gallery_samples: (
            "Uncurated samples; if the generator is conditional, a column is one class"
        ),
        run.gallery_walk: "A walk between latents",
        run.gallery_neighbours: (
            "Generated images, each followed by the real images with nearest features"
        ),
    }
    figures = []
    for path, caption in captions.items():
        try:
            data = base64.b64encode(run.read(path)).decode()
        except FileNotFoundError:
            continue
        kind = path.suffix.removeprefix(".")
        figures.append(
            f'<figure><img alt="{caption}" src="data:image/{kind};base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return "\n".join(figures)


def _table(facts: dict[str, str]) -> str:
    rows = (
        f"<tr><th>{html.escape(k)}</th><td>{html.escape(printable(v))}</td></tr>"
        for k, v in facts.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _is_drawn(value: Any) -> bool:
    """Return whether a value can be a point of a curve: a finite number."""
    return type(value) in (int, float) and abs(value) < MAX_DRAWN


def _chart(title: str, keys: tuple[str, ...], metrics: list[dict[str, Any]]) -> str:
    """Return an inline SVG of some numbers over images seen; empty if none was logged."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.add_subplot()
    drawn = False
    for key in keys:
        pairs = [(line.get("images"), line.get(key)) for line in metrics]
        points = [pair for pair in pairs if all(map(_is_drawn, pair))]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                label=key,
                linewidth=1.2,
                marker="." if len(points) < 20 else "",
            )
            drawn = True
    if not drawn:
        return ""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("images seen")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
h1 { font-size: 1.5rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin-top: 2rem }
.charts { display: grid; gap: 1rem;
          grid-template-columns: repeat(auto-fit, minmax(min(380px, 100%), 1fr)) }
figure { margin: 0 } figcaption { color: #666; font-size: 13px }
.charts svg { width: 100%; height: auto }
img { image-rendering: pixelated; width: min(100%, 640px) }
table { border-collapse: collapse } th { text-align: left; font-weight: 500; color: #666 }
th, td { overflow-wrap: anywhere; padding: .1rem 1rem .1rem 0; vertical-align: top }
pre { background: #f5f5f5; padding: 1rem; overflow: auto; font-size: 13px }
input[type=range] { width: min(100%, 640px); display: block }
</style></head><body>
<h1>$title</h1>
$facts
<section id="pictures"><h2>Samples from the same noise, over training</h2>
<img id="grid" alt="grid of samples"><input id="time" type="range" min="0" aria-label="step">
<button id="play">play</button> <span id="step"></span></section>
<h2>$pictured</h2><div class="charts gallery">
$gallery
</div>
<h2>Curves</h2><div class="charts">
$charts
</div>
<h2>Experiment</h2><pre>$experiment</pre>
<h2>Environment</h2>
$environment
<script>
const frames = $frames;
const at = (id) => document.getElementById(id);
if (!frames.length) at("pictures").remove();
else {
  const slider = at("time");
  const show = () => {
    const frame = frames[slider.value];
    at("grid").src = "data:image/png;base64," + frame.png;
    at("step").textContent = "step " + frame.step.toLocaleString("en");
  };
  slider.max = frames.length - 1;
  slider.value = frames.length - 1;
  slider.oninput = show;
  let timer = null;
  at("play").onclick = () => {
    if (timer) { clearInterval(timer); timer = null; at("play").textContent = "play"; return; }
    at("play").textContent = "stop";
    timer = setInterval(() => { slider.value = (+slider.value + 1) % frames.length; show(); }, 400);
  };
  show();
}
</script></body></html>
"""
