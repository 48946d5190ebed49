"""Scores, what they were computed from, and the file that keeps them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
        with (run / EVALUATIONS).open("a") as file:
            file.write(line + "\n")


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
    """All evaluations of a run, oldest first."""
    path = run / EVALUATIONS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def is_better(score: str, a: float, b: float) -> bool:
    """Whether `a` is the better value of that score."""
    return a < b if score in LOWER_IS_BETTER else a > b
