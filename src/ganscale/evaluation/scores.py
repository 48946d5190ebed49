"""Scores with what they were computed from, and the file that records them."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ganscale.config import Evaluation
from ganscale.evaluation.metrics.metric import METRICS
from ganscale.files import append_line, read_json_lines, write_atomically
from ganscale.registry import log_name, short_name

Evaluated = Mapping[str, Any]
"""A line of the file of a run's evaluations."""
MAX_DETAILS = 2  # of a metric in a sentence
MAX_VALUE = 1e300  # a larger integer could not be converted to a float, nor printed briefly


@dataclass(frozen=True)
class Scores:
    """The result of an evaluation, with the context without which FID means nothing."""

    values: dict[str, float]
    """The value of each metric by its name."""
    features: str
    """A description of the feature network and how far it can be trusted."""
    features_checksum: str
    samples: int
    """The number of generated images."""
    real_samples: int
    """The number of real images."""
    real_set: str
    """A description of the real dataset."""
    perfect_fid: float
    """The FID that as many perfect samples would get: the real-vs-real floor."""
    class_shares: tuple[float, ...]
    """The share of each class in the generated images; empty if the features know no classes."""
    features_name: str = ""
    """The name of the feature network."""
    lower_is_better: Mapping[str, bool] = field(default_factory=dict)
    """For each value that says which generator is the better one, whether it is the lower one.

    It stands here because a report must not load the user's own metrics to know it.
    """
    details: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """For some metrics, numbers by which to judge the value, such as that of each class."""

    def __str__(self) -> str:
        return describe_scores(asdict(self))

    def __getitem__(self, name: str) -> float:
        """Return one of the values by its name, such as `fid`."""
        return self.values[name]

    def record(self, path: Path, step: int, images: int) -> dict[str, Any]:
        """Append them to the file of a run's evaluations; return what will be read back."""
        line = json.dumps({"step": step, "images": images, **asdict(self)})
        append_line(path, line)
        read_back: dict[str, Any] = json.loads(line)
        return read_back


def describe_scores(scores: Mapping[str, Any]) -> str:
    """Describe scores, or an evaluation read back, in one sentence; older ones lack some scores."""
    shown = [
        f"{title_of(name)} {value:.4g}{_beside(scores, name)}"
        for name, value in shown_values(scores).items()
    ]
    count = f"{scores['samples']:,}"
    perfect = scores.get("perfect_fid")
    floor = f"; {count} perfect samples would get FID {perfect:.3g}" if perfect is not None else ""
    return (
        f"{', '.join(shown)} ({scores['features']}; {count} generated against "
        f"{scores['real_samples']:,} real images of {scores['real_set']}{floor})"
    )


def deciding_values(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return those values of an evaluation that can say which generator is the better one."""
    values = scores["values"]
    return {name: values[name] for name in _lower_is_better(scores) if name in values}


def shown_values(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that can decide, and those that only an experiment that asks for them has.

    The others explain those, and stand in the report.
    """
    deciding, values = deciding_values(scores), scores["values"]
    optional = [name for name in METRICS.built_in() if METRICS.get(name).optional]
    return deciding | {name: values[name] for name in optional if name in values}


def _beside(scores: Mapping[str, Any], name: str) -> str:
    """Return the details of a metric in brackets if there are few, such as `(perfect 0.5)`."""
    details = scores.get("details", {}).get(name, {})  # older lines lack them
    if not 0 < len(details) <= MAX_DETAILS:
        return ""
    return f" ({', '.join(f'{what} {value:.4g}' for what, value in details.items())})"


def title_of(name: str) -> str:
    """Return what people call a score."""
    name = log_name(name)
    title = METRICS.get(name).title if name in METRICS.built_in() else ""
    return title or name


def _lower_is_better(scores: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether the lower value is better, for each score that may decide."""
    metrics = {name: METRICS.get(name).lower_is_better for name in METRICS.built_in()}
    known = {name: lower for name, lower in metrics.items() if lower is not None}
    recorded = scores.get("lower_is_better", {})  # older lines lack it
    return known | {name: lower for name, lower in recorded.items() if name not in metrics}


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """Return all evaluations of a run, oldest first, without any line that a crash cut off."""
    return [line for line in read_json_lines(path) if _is_evaluation(line)]


def _is_evaluation(line: dict[str, Any]) -> bool:
    """Return whether a line has what `describe_scores` needs; it may come from a stranger."""
    kinds = {"step": int, "values": dict, "samples": int, "real_samples": int}
    kinds |= {"features": str, "real_set": str}
    if not all(type(line.get(key)) is kind for key, kind in kinds.items()):
        return False
    if type(line.get("images", 0)) is not int:
        return False
    directions = line.get("lower_is_better", {})
    if not isinstance(directions, dict) or not all(type(v) is bool for v in directions.values()):
        return False
    details = line.get("details", {})
    if not isinstance(details, dict) or not all(isinstance(d, dict) for d in details.values()):
        return False
    beside = (number for of_one in details.values() for number in of_one.values())
    numbers = (*line["values"].values(), *beside, line.get("perfect_fid", 0.0))  # older lack it
    return all(type(number) in (int, float) and abs(number) < MAX_VALUE for number in numbers)


def forget_after(path: Path, step: int) -> None:
    """Delete the evaluations of steps after `step`, from which the run resumes and repeats them."""
    known = read_evaluations(path)
    kept = [line for line in known if line["step"] <= step]
    if len(kept) < len(known):
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(path, text.encode())


def best(evaluations: Iterable[Evaluated], wanted: Evaluation) -> Evaluated | None:
    """Return the best of some evaluations by the score `wanted.best`, or None.

    This alone decides what is called the best everywhere. It compares only evaluations with the
    same features, number of images and real dataset: those that `wanted` asks for or, if there are
    none, those like the newest. If a step was evaluated several times, the newest line counts.
    Lines without a finite score are ignored.
    """
    name = log_name(wanted.best)
    scored = [e for e in evaluations if math.isfinite(e["values"].get(name, math.nan))]
    sign = _sign(scored, name)
    found = curve(scored, wanted)
    return min(found, key=lambda e: (sign * e["values"][name], e["step"]), default=None)


def curve(evaluations: Sequence[Evaluated], wanted: Evaluation) -> list[Evaluated]:
    """Return the evaluations that `best` compares: the newest of each step, by their steps."""
    if not evaluations:
        return []
    common = basis(_select_wanted(evaluations, wanted)[-1])
    of_step = {e["step"]: e for e in evaluations if basis(e) == common}
    return [of_step[step] for step in sorted(of_step)]


def rank(evaluation: Evaluated, wanted: Evaluation) -> float:
    """Return a number that is the lower, the better the score `wanted.best` of an evaluation is."""
    name = log_name(wanted.best)
    return float(_sign([evaluation], name) * evaluation["values"][name])


def _sign(evaluations: Iterable[Evaluated], name: str) -> int:
    """Return 1 if the lower value of a score is the better one, and -1 if the higher one is."""
    known = (_lower_is_better(evaluation) for evaluation in evaluations)
    return 1 if next((lower[name] for lower in known if name in lower), False) else -1


def basis(evaluation: Evaluated) -> tuple[Any, ...]:
    """Return what two evaluations must have in common to be comparable."""
    keys = ("features", "features_checksum", "samples", "real_set")
    return tuple(evaluation.get(key) for key in keys)


def _select_wanted(evaluations: Sequence[Evaluated], wanted: Evaluation) -> Sequence[Evaluated]:
    """Select those with the features and number of images of `wanted`, or all if there are none.

    `auto` is the classifier if the dataset has labels, and otherwise the rotations; older runs
    without labels have scores of Inception instead.
    """
    names = [short_name(wanted.features)]
    if wanted.features == "auto":
        names = ["classifier", "rotations", "inception"]
    for name in names:
        found = [
            e for e in evaluations if e.get("samples") == wanted.samples and features_of(e) == name
        ]
        if found:
            return found
    return evaluations


def features_of(evaluation: Evaluated) -> str:
    """Return the name of the feature network; in older lines only its description begins so."""
    recorded = evaluation.get("features_name")
    if isinstance(recorded, str) and recorded:
        return recorded
    return str(evaluation.get("features", "")).lower().partition(" ")[0]
