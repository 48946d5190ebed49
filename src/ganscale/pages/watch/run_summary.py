"""What the table of runs shows of one run, from the ends of its files."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

from ganscale.errors import GanscaleError
from ganscale.files import read_json_lines, read_last_json_lines
from ganscale.monitoring.metrics_log import is_measurement, renamed
from ganscale.monitoring.time_left import RECENT_LINES, TimeLeft
from ganscale.pages.watch.log_reader import is_number
from ganscale.registry import log_name
from ganscale.runs.checkpoint_names import list_finished, step_of
from ganscale.runs.run_files import RunFiles

BESIDE_MEASUREMENTS = {"step", "images"}
Summary = dict[str, Any]


def broken(problem: str) -> Summary:
    """Return the summary of a run that cannot be read."""
    unknown = ("logged_at", "step", "steps", "images_per_second", "seconds_left", "scores")
    empty: Summary = {"metrics": [], "grids": [], "best": ""}
    return {"state": "broken", "problem": problem, **dict.fromkeys(unknown), **empty}


def summarize(run: RunFiles) -> Summary:
    """Return the run as an object for JSON, whatever is in its folder."""
    try:
        values, problem = run.recorded_values(), None
    except (GanscaleError, OSError) as error:
        values, problem = {}, str(error).splitlines()[0]
    lines = [renamed(line) for line in read_last_json_lines(run.metrics) if is_measurement(line)]
    steps = _whole(values, "train", "steps")
    batch = _whole(values, "train", "batch_size")
    saved = [step_of(path) for path in list_finished(run.checkpoints)]
    at = max((line["step"] for line in lines), default=0)
    state = run.state(steps is not None and bool(saved) and saved[-1] >= steps)
    rates = [line["images_per_second"] for line in lines if _is_rate(line)]
    return {
        "state": state if problem is None else "broken",
        "problem": problem,
        "logged_at": _logged_at(run),
        "step": max([at, *saved[-1:]]),
        "steps": steps,
        "images_per_second": rates[-1] if rates else None,
        "seconds_left": _seconds_left(lines, steps, at) if state == "running" else None,
        "metrics": sorted(_metrics_in(lines)),
        "grids": [[step, step * (batch or 1)] for step, _ in run.sample_grids()],
        **_scores(run, values),
    }


def _logged_at(run: RunFiles) -> int | None:
    """Return when the run last logged a line, in seconds since 1970."""
    try:
        return int(run.metrics.stat().st_mtime)
    except OSError:
        return None


def _whole(values: Any, *keys: str) -> int | None:
    """Return the whole number at a key, if the recorded values have one there."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values if type(values) is int and 0 <= values < 2**53 else None


def _is_rate(line: Mapping[str, Any]) -> bool:
    rate = line.get("images_per_second")
    return is_number(rate) and 0 < rate < math.inf


def _seconds_left(lines: list[dict[str, Any]], steps: int | None, at: int) -> float | None:
    """Estimate the seconds to the last step; pauses between steps are not in the log."""
    of_steps = [line for line in lines if _is_rate(line) and "images" in line][-RECENT_LINES - 1 :]
    if steps is None or len(of_steps) < 2:
        return None
    left = TimeLeft(steps)
    for before, line in itertools.pairwise(of_steps):
        seconds = (line["images"] - before["images"]) / line["images_per_second"]
        if line["step"] > before["step"]:
            left.take(line["step"] - before["step"], seconds, 0.0)
    return left.after(at)


def _metrics_in(lines: list[dict[str, Any]]) -> set[str]:
    names = {name for line in lines for name, value in line.items() if is_number(value)}
    return names - BESIDE_MEASUREMENTS


def _scores(run: RunFiles, values: Mapping[str, Any]) -> Summary:
    """Return the best evaluation, of those that are comparable with the newest.

    The metric that decides is the experiment's `evaluation.best`. Its direction is read from the
    evaluation, since looking it up among the metrics would take PyTorch.
    """
    section = values.get("evaluation")
    wanted = section.get("best") if isinstance(section, dict) else None
    name = log_name(wanted) if isinstance(wanted, str) else "fid"
    known = [e for e in read_json_lines(run.evaluations) if _is_evaluation(e)]
    if not known:
        return {"best": name, "scores": None}
    alike = [e for e in known if _basis(e) == _basis(known[-1])]
    directions = known[-1]["lower_is_better"]
    scored = [e for e in alike if is_number(e["values"].get(name)) and name in directions]
    sign = 1 if directions.get(name) else -1
    chosen = min(scored, key=lambda e: sign * e["values"][name]) if scored else known[-1]
    shown = {
        metric: {"value": chosen["values"][metric], "lower_is_better": lower}
        for metric, lower in directions.items()
        if is_number(chosen["values"].get(metric)) and math.isfinite(chosen["values"][metric])
    }
    basis = f"{chosen['features']}, {chosen['samples']:,} images, {chosen['real_set']}"
    return {"best": name, "scores": {"step": chosen["step"], "basis": basis, "values": shown}}


def _is_evaluation(line: Mapping[str, Any]) -> bool:
    kinds = {"step": int, "samples": int, "features": str, "real_set": str}
    if not all(type(line.get(key)) is kind for key, kind in kinds.items()):
        return False
    directions = line.get("lower_is_better")
    return (
        isinstance(line.get("values"), dict)
        and isinstance(directions, dict)
        and all(type(lower) is bool for lower in directions.values())
    )


def _basis(evaluation: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what two evaluations must have in common to be comparable."""
    keys = ("features", "features_checksum", "samples", "real_set")
    return tuple(repr(evaluation.get(key)) for key in keys)
