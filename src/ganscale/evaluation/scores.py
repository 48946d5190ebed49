"""Scores with what they were computed from, and the file that records them."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganscale.config import Evaluation
from ganscale.files import append_line, read_json_lines, write_atomically

Evaluated = Mapping[str, Any]
"""A line of the file of a run's evaluations."""
NAMES = {
    "fid": "FID",
    "kid": "KID",
    "inception_score": "IS",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}
MAX_VALUE = 1e300  # a larger integer could not be converted to a float, nor printed briefly
LOWER_IS_BETTER = ("fid", "kid")


@dataclass(frozen=True)
class Scores:
    """The result of an evaluation, with the context without which FID means nothing."""

    values: dict[str, float]
    """The scores in `NAMES`, `diversity`, and `class_entropy` if the features know the classes."""
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

    def __str__(self) -> str:
        return describe_scores(asdict(self))

    def record(self, path: Path, step: int, images: int) -> None:
        """Append them to the file of a run's evaluations."""
        line = json.dumps({"step": step, "images": images, **asdict(self)})
        append_line(path, line)


def describe_scores(scores: Mapping[str, Any]) -> str:
    """Describe scores, or an evaluation read back, in one sentence; older ones lack some scores."""
    values = scores["values"]
    shown = [f"{name} {values[key]:.4g}" for key, name in NAMES.items() if key in values]
    count = f"{scores['samples']:,}"
    perfect = scores.get("perfect_fid")
    floor = f"; {count} perfect samples would get FID {perfect:.3g}" if perfect is not None else ""
    return (
        f"{', '.join(shown)} ({scores['features']}; {count} generated against "
        f"{scores['real_samples']:,} real images of {scores['real_set']}{floor})"
    )


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """Return all evaluations of a run, oldest first, without any line that a crash cut off."""
    return [line for line in read_json_lines(path) if _is_evaluation(line)]


def _is_evaluation(line: dict[str, Any]) -> bool:
    """Return whether a line has what `describe_scores` needs; it may come from a stranger."""
    kinds = {"step": int, "values": dict, "samples": int, "real_samples": int}
    kinds |= {"features": str, "real_set": str}
    if not all(type(line.get(key)) is kind for key, kind in kinds.items()):
        return False
    numbers = (*line["values"].values(), line.get("perfect_fid", 0.0))  # older lines lack it
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
    scored = [e for e in evaluations if math.isfinite(e["values"].get(wanted.best, math.nan))]
    if not scored:
        return None
    basis = _basis(_select_wanted(scored, wanted)[-1])
    of_step = {e["step"]: e for e in scored if _basis(e) == basis}
    sign = 1 if wanted.best in LOWER_IS_BETTER else -1
    return min(of_step.values(), key=lambda e: (sign * e["values"][wanted.best], e["step"]))


def _basis(evaluation: Evaluated) -> tuple[Any, ...]:
    """Return what two evaluations must have in common to be comparable."""
    keys = ("features", "features_checksum", "samples", "real_set")
    return tuple(evaluation.get(key) for key in keys)


def _select_wanted(evaluations: list[Evaluated], wanted: Evaluation) -> list[Evaluated]:
    """Select those with the features and number of images of `wanted`, or all if there are none.

    `auto` prefers the classifier, which exists if the dataset has labels.
    """
    kinds = ("classifier", "inception") if wanted.features == "auto" else (wanted.features,)
    for kind in kinds:
        found = [
            e
            for e in evaluations
            if e.get("samples") == wanted.samples
            and str(e.get("features", "")).lower().startswith(kind)
        ]
        if found:
            return found
    return evaluations
