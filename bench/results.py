"""The table of docs/results.md, from run folders that `ganscale train` and `evaluate` have left.

    python bench/results.py runs/*

renews what is between the marks of docs/results.md, and docs/results/, a grid for each run. Minutes
are those of training alone, from the images a second that each line of `metrics.jsonl` says. The
last evaluation of a run counts, which `ganscale evaluate RUN --checkpoint best` writes.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from ganscale.config import Experiment
from ganscale.config.load import differences, load, schedule_changes
from ganscale.evaluation.scores import read_evaluations
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.runs.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- begin table -->", "<!-- end table -->"
HEADS = (
    "run: its samples",
    "images seen",
    "minutes",
    "FID",
    "KID",
    "IS",
    "precision",
    "recall",
    "coverage",
    "rarest … commonest class (1: equal)",
    "features",
    "FID of perfect samples",
    "generated / real",
)
GRID = Path("gallery") / "samples.png"


def training_minutes(run: Path, until: int) -> float:
    """Time spent in steps up to that one."""
    seconds, images = 0.0, 0
    for line in read_metrics(RunFolder(run).metrics):
        if "images_per_second" in line and line["step"] <= until:
            seconds += (line["images"] - images) / line["images_per_second"]
            images = line["images"]
    return seconds / 60


def refuse_unshipped(run: Path, experiment: Experiment) -> None:
    """Stop where a row could not be repeated with a file of configs/."""
    path = ROOT / "configs" / f"{experiment.name}.yaml"
    if not path.is_file():
        raise SystemExit(f"{run}: configs/ has no file of the name {experiment.name}")
    shipped = load(path)
    keys = [
        key
        for key, *_ in (*differences(shipped, experiment), *schedule_changes(shipped, experiment))
    ]
    if shipped.train.steps != experiment.train.steps:
        keys.append("train.steps")
    if keys:
        raise SystemExit(
            f"{run} differs from {path.name} in {', '.join(keys)}: give it a file of its own"
        )


def row(run: Path, out: Path) -> str:
    """Return the table's line of a run; copies its grid."""
    experiment = RunFolder(run).experiment()
    refuse_unshipped(run, experiment)
    best: dict[str, Any] = read_evaluations(RunFolder(run).evaluations)[-1]
    values, shares = best["values"], best["class_shares"]
    uniform = 1 / len(shares) if shares else 0.0
    spread = f"{min(shares) / uniform:.2f} … {max(shares) / uniform:.2f}" if shares else ""
    if experiment.data.classes:
        spread = f"told; {spread}"
    shutil.copyfile(run / GRID, out / f"{run.name}.png")
    cells = [
        f"[{run.name}]({out.name}/{run.name}.png)",
        f"{best['images']:,}",
        f"{training_minutes(run, best['step']):.1f}",
        f"{values['fid']:.1f}",
        f"{values['kid']:.3f}",
        f"{values['inception_score']:.2f}",
        f"{values['precision']:.2f}",
        f"{values['recall']:.2f}",
        f"{values['coverage']:.2f}",
        spread,
        best["features"].removesuffix(")").replace("features (", ""),
        f"{best['perfect_fid']:.2f}" if "perfect_fid" in best else "",
        f"{best['samples']:,} / {best['real_samples']:,} {best['real_set']}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    options = parser.parse_args()
    out = PAGE.with_suffix("")
    out.mkdir(exist_ok=True)
    rows = [row(run, out) for run in options.runs if (run / GRID).is_file()]
    table = [
        "| " + " | ".join(HEADS) + " |",
        "|" + "---|" * len(HEADS),
        *rows,
    ]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + "\n\n" + "\n".join(table) + "\n\n" + END + after)


if __name__ == "__main__":
    main()
