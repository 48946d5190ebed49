"""`report.html`: a run in one self-contained file, which needs neither W&B nor a network."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, TypeGuard

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
from ganscale.runs.line_chart import line_chart
from ganscale.runs.looks import STYLESHEET
from ganscale.runs.run_folder import RunFolder
from ganscale.terminal import printable

MAX_PICTURES = 60  # of a longer run, the report shows every n-th picture
MAX_DRAWN = 1e300  # the difference of larger ones overflows
PAGE = Path(__file__).parent / "report_page"
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
    style = STYLESHEET.read_text(encoding="utf-8") + (PAGE / "report.css").read_text(
        encoding="utf-8"
    )
    script = (PAGE / "report.js").read_text(encoding="utf-8")
    page = _fill(
        "report.html",
        title=html.escape(experiment.name),
        policy=html.escape(_policy(style, script)),
        style=style,
        script=script,
        facts=_table(facts),
        samples=_samples(frames),
        frames=_json_in_html(frames),
        charts="\n".join(filter(None, charts)),
        gallery=_gallery(run, experiment, scored is not None),
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


def _fill(name: str, **values: str) -> str:
    """Return a template of the report with its values, which are HTML already."""
    return Template((PAGE / name).read_text(encoding="utf-8")).substitute(values)


def _samples(frames: list[dict[str, Any]]) -> str:
    """Return the HTML of the newest grid of samples, which the script lets move through time."""
    if not frames:
        return ""
    return _fill("samples.html", step=f"step {frames[-1]['step']:,}", png=frames[-1]["png"])


def _gallery(run: RunFolder, experiment: Experiment, is_scored: bool) -> str:
    """Return the HTML of the gallery's pictures, embedded; only of scored runs one is the best."""
    title = "The best checkpoint" if is_scored else "The last checkpoint"
    columns = "; each column is one class" if experiment.data.classes else ""
    captions = {
        run.gallery_samples: f"Uncurated samples{columns}",
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
            f'<figure class="card"><img alt="{caption}" src="data:image/{kind};base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    inner = "\n".join(figures) or '<p class="muted">There are no pictures of it yet.</p>'
    return (
        '<section aria-labelledby="gallery-title">'
        f'<h2 id="gallery-title">{title}</h2><div class="columns pictures">{inner}</div></section>'
    )


def _table(facts: dict[str, str]) -> str:
    rows = (
        f'<tr><th scope="row">{html.escape(k)}</th><td>{html.escape(printable(v))}</td></tr>'
        for k, v in facts.items()
    )
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _is_drawn(value: Any) -> TypeGuard[float]:
    """Return whether a value can be a point of a curve: a finite number."""
    return type(value) in (int, float) and abs(value) < MAX_DRAWN


def _chart(title: str, keys: tuple[str, ...], metrics: list[dict[str, Any]]) -> str:
    """Return a chart of some numbers over images seen; empty if none was logged."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for key in keys:
        for line in metrics:
            x, y = line.get("images"), line.get(key)
            if _is_drawn(x) and _is_drawn(y):
                curves.setdefault(key, []).append((x, y))
    for points in curves.values():
        points.sort()
    return line_chart(title, "images", curves) if curves else ""


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy by which only this style and this script count."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )


def _json_in_html(value: Any) -> str:
    """Return JSON that no string in it can end: HTML looks for `</script>` and `<!--` alone."""
    return json.dumps(value).replace("<", "\\u003c")
