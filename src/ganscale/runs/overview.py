"""`ganscale runs`: what each run of a folder is doing, how far it is, and its best score.

Only the names of checkpoints and the ends of files are read, so that a hundred runs take a second
or two. A run that cannot be read is listed with the reason.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganscale.errors import GanscaleError
from ganscale.evaluation import scores
from ganscale.monitoring.metrics_log import last_metrics
from ganscale.registry import log_name
from ganscale.runs.checkpoint_names import list_finished, step_of
from ganscale.runs.run_folder import RunFolder
from ganscale.terminal import printable

COLUMNS = ("run", "state", "step", "best score", "last line", "images/s")
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class BestScore:
    """The best evaluation of a run, by the metric that its experiment names."""

    metric: str
    value: float
    step: int


@dataclass(frozen=True)
class RunSummary:
    """One run as the files in its folder show it."""

    name: str
    folder: str
    state: str
    """`running`, `finished`, `stopped`, `waiting`, `crashed`, or `broken` if it cannot be read."""
    age_s: float
    """Seconds since the run last logged a line or, if it never did, since its folder changed."""
    step: int | None = None
    """Steps logged by a running process; of any other run, the steps that it would resume from."""
    steps: int | None = None
    """`train.steps` of the experiment."""
    best: BestScore | None = None
    images_per_s: float | None = None
    """The rate in the last line."""
    problem: str | None = None
    """Why a broken run cannot be read."""

    @classmethod
    def of(cls, path: Path) -> "RunSummary":
        """Return the summary of the run in a folder, whatever is in it."""
        folder = RunFolder(path)
        try:
            return cls._read(folder)
        except (GanscaleError, OSError) as error:
            problem = str(error).splitlines()[0]
            return cls(path.name, str(path), "broken", _age(folder), problem=problem)

    @classmethod
    def _read(cls, folder: RunFolder) -> "RunSummary":
        experiment = folder.experiment()
        last = last_metrics(folder.metrics) or {}
        known = list_finished(folder.checkpoints)
        saved = step_of(known[-1]) if known else 0
        state = folder.state(saved >= experiment.train.steps)
        evaluated = scores.best(scores.read_evaluations(folder.evaluations), experiment.evaluation)
        best = None
        if evaluated is not None:
            metric = experiment.evaluation.best
            value = evaluated["values"][log_name(metric)]
            best = BestScore(scores.title_of(metric), value, evaluated["step"])
        rate = last.get("images_per_second")
        return cls(
            folder.path.name,
            str(folder.path),
            state,
            _age(folder),
            max(saved, last.get("step", 0)) if state == "running" else saved,
            experiment.train.steps,
            best,
            rate if type(rate) in (int, float) else None,
        )


def summarize_runs(folder: Path) -> list[RunSummary]:
    """Return the runs in a folder, the one that logged last first.

    `folder` may also be a single run's. Raises `GanscaleError` if it is no folder.
    """
    if not folder.is_dir():
        raise GanscaleError(
            f"{folder}: no such folder; name the one that holds the runs (runs=… of the experiment)"
        )
    if RunFolder(folder).looks_like_one():
        return [RunSummary.of(folder)]
    paths = [path for path in folder.iterdir() if RunFolder(path).looks_like_one()]
    return sorted(map(RunSummary.of, paths), key=lambda run: (run.age_s, run.name))


def as_objects(runs: list[RunSummary]) -> list[dict[str, Any]]:
    """Return the runs as plain objects for JSON."""
    return [asdict(run) for run in runs]


def as_table(runs: list[RunSummary]) -> str:
    """Return the runs as lines of aligned columns; the reason follows a run that is broken."""
    rows = [COLUMNS, *map(_row, runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = []
    for row, run in zip(rows, [None, *runs], strict=True):
        columns = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        problem = f"  {printable(run.problem)}" if run is not None and run.problem else ""
        lines.append(("  ".join(columns) + problem).rstrip())
    return "\n".join(lines)


def _row(run: RunSummary) -> tuple[str, ...]:
    best, rate = run.best, run.images_per_s
    return (
        printable(run.name),
        run.state,
        "-" if run.step is None else f"{run.step:,} of {run.steps:,}",
        "-" if best is None else f"{printable(best.metric)} {best.value:.4g} at {best.step:,}",
        f"{_duration(run.age_s)} ago",
        "-" if rate is None else f"{rate:,.0f}",
    )


def _age(folder: RunFolder) -> float:
    for path in (folder.metrics, folder.path):
        try:
            return max(0.0, time.time() - path.stat().st_mtime)
        except OSError:
            continue
    return 0.0


def _duration(seconds: float) -> str:
    """Return a duration in its largest whole unit, such as `3 h`."""
    size, unit = next(((s, u) for s, u in UNITS if seconds >= s), UNITS[-1])
    return f"{seconds / size:.0f} {unit}"
