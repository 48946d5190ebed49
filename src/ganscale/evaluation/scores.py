"""Scores, what they were computed from, and the file that keeps them."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganscale.config import Evaluation
from ganscale.files import append_line, read_json_lines, write_atomically

Evaluated = Mapping[str, Any]
"""A line of `evaluations.jsonl`."""
EVALUATIONS = "evaluations.jsonl"
NAMES = {
    "fid": "FID",
    "kid": "KID",
    "inception_score": "IS",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}
MOST = 1e300  # an integer beyond is no float, and has no short form
LOWER_IS_BETTER = ("fid", "kid")


@dataclass(frozen=True)
class Scores:
    """What came of an evaluation. FID means nothing without the rest."""

    values: dict[str, float]
    """By the names of `NAMES`; `diversity`, and `class_entropy` where classes are known."""
    features: str
    """Whose, and how far they can be trusted."""
    features_checksum: str
    samples: int
    """Generated images."""
    real_samples: int
    real_set: str
    perfect_fid: float
    """FID that as many perfect samples would get."""
    class_shares: tuple[float, ...]
    """How often each class was generated, where the features know the set's classes."""

    def __str__(self) -> str:
        return described(asdict(self))

    def record(self, run: Path, step: int, images: int) -> None:
        """Append to the run's `evaluations.jsonl`."""
        line = json.dumps({"step": step, "images": images, **asdict(self)})
        append_line(run / EVALUATIONS, line)


def described(scores: Mapping[str, Any]) -> str:
    """Scores, or a line of `evaluations.jsonl`, in one sentence; older lines lack some of them."""
    values = scores["values"]
    shown = [f"{name} {values[key]:.4g}" for key, name in NAMES.items() if key in values]
    count = f"{scores['samples']:,}"
    perfect = scores.get("perfect_fid")
    chance = f"; {count} perfect ones would get FID {perfect:.3g}" if perfect is not None else ""
    return (
        f"{', '.join(shown)} ({scores['features']}; {count} generated against "
        f"{scores['real_samples']:,} real images of {scores['real_set']}{chance})"
    )


def read_evaluations(run: Path) -> list[dict[str, Any]]:
    """All evaluations of a run, oldest first; a line that a crash has cut is left out."""
    return [line for line in read_json_lines(run, EVALUATIONS) if _is_evaluation(line)]


def _is_evaluation(line: dict[str, Any]) -> bool:
    """Whether a line has what `described` shows; a run folder may be a stranger's."""
    kinds = {"step": int, "values": dict, "samples": int, "real_samples": int}
    kinds |= {"features": str, "real_set": str}
    if not all(type(line.get(key)) is kind for key, kind in kinds.items()):
        return False
    numbers = (*line["values"].values(), line.get("perfect_fid", 0.0))  # older lines lack it
    return all(type(number) in (int, float) and abs(number) < MOST for number in numbers)


def forget_after(run: Path, step: int) -> None:
    """Drop evaluations of later steps than that from which the run is resumed: they come again."""
    known = read_evaluations(run)
    kept = [line for line in known if line["step"] <= step]
    if len(kept) < len(known):
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(run / EVALUATIONS, text.encode())


def best(evaluations: Iterable[Evaluated], wanted: Evaluation) -> Evaluated | None:
    """The best of some lines of `evaluations.jsonl` by the score `wanted.best`, or None.

    All that call something the best ask here. Only evaluations with the same features, number of
    images and real set are compared: those that `wanted` asks for; where there are none, those
    like the newest. Of one step the newest counts. A score that is missing or no number is none.
    """
    scored = [e for e in evaluations if math.isfinite(e["values"].get(wanted.best, math.nan))]
    if not scored:
        return None
    basis = _basis(_asked_for(scored, wanted)[-1])
    of_step = {e["step"]: e for e in scored if _basis(e) == basis}
    sign = 1 if wanted.best in LOWER_IS_BETTER else -1
    return min(of_step.values(), key=lambda e: (sign * e["values"][wanted.best], e["step"]))


def _basis(evaluation: Evaluated) -> tuple[Any, ...]:
    """What makes two evaluations comparable where it is the same."""
    keys = ("features", "features_checksum", "samples", "real_set")
    return tuple(evaluation.get(key) for key in keys)


def _asked_for(evaluations: list[Evaluated], wanted: Evaluation) -> list[Evaluated]:
    """Those with the features and the number of images that `wanted` names; all if there are none.

    Where there are labels, `auto` means the classifier.
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
