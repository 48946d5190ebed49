"""The table of docs/results.md, from run folders that `ganscale train` and `evaluate` have left.

    python bench/results.py runs/* --out docs/results

writes `docs/results/table.md` and a grid a run. Minutes are those of training alone, from the
images a second that each line of `metrics.jsonl` says.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from ganscale.config import Experiment
from ganscale.evaluation.scores import read_evaluations
from ganscale.experiment import differences, load
from ganscale.monitoring.trackers import read_metrics
from ganscale.training.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
GRID = Path("gallery") / "samples.png"


def training_minutes(run: Path, until: int) -> float:
    """Time spent in steps up to that one."""
    seconds, images = 0.0, 0
    for line in read_metrics(run):
        if "images/s" in line and line["step"] <= until:
            seconds += (line["images"] - images) / line["images/s"]
            images = line["images"]
    return seconds / 60


def changed(experiment: Experiment) -> str:
    """What a run has that the shipped file of its name does not."""
    path = ROOT / "configs" / f"{experiment.name}.yaml"
    if not path.is_file():
        return "no file of that name in configs/"
    pairs = [f"`{key}={value}`" for key, _, value in differences(load(path), experiment)]
    return ", ".join(pairs) or "as shipped"


def row(run: Path, out: Path) -> tuple[str, str]:
    """The table's line of a run, and what was changed in it; copies its grid."""
    experiment = RunFolder(run).experiment()
    best: dict[str, Any] = min(read_evaluations(run), key=lambda e: float(e["values"]["fid"]))
    values, shares = best["values"], best["class_shares"]
    uniform = 1 / len(shares) if shares else 0.0
    spread = f"{min(shares) / uniform:.2f} … {max(shares) / uniform:.2f}" if shares else ""
    if experiment.data.classes:
        spread = "told"
    shutil.copyfile(run / GRID, out / f"{run.name}.png")
    cells = [
        f"[{run.name}]({out.name}/{run.name}.png)",
        f"{best['images']:,}",
        f"{training_minutes(run, best['step']):.1f}",
        f"{values['fid']:.1f}",
        f"{best['floor']:.2f}",
        f"{values['kid']:.3f}",
        f"{values['inception_score']:.2f}",
        f"{values['precision']:.2f}",
        f"{values['recall']:.2f}",
        f"{values['coverage']:.2f}",
        spread,
        f"{best['features'].removeprefix('classifier features ').strip('()')}",
        f"{best['samples']:,} / {best['real_samples']:,} {best['real_set']}",
    ]
    return "| " + " | ".join(cells) + " |", f"- `{run.name}`: {changed(experiment)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [row(run, options.out) for run in options.runs if (run / GRID).is_file()]
    heads = (
        "run, grid of the best checkpoint",
        "images seen",
        "minutes",
        "FID",
        "its floor",
        "KID",
        "IS",
        "precision",
        "recall",
        "coverage",
        "class shares, least … most (1: uniform)",
        "classifier",
        "made / real images",
    )
    table = [
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *(line for line, _ in rows),
        "",
        "Against the shipped files:",
        "",
        *(text for _, text in rows),
    ]
    path = options.out / "table.md"
    path.write_text("\n".join(table) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
