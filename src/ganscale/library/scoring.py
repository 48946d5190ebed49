"""`ganscale.evaluate`: the scores of a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ganscale.evaluation.scores import Scores
from ganscale.runs import scoring
from ganscale.system_errors import explained


def evaluate(
    run: str | os.PathLike[str],
    checkpoint: str = "latest",
    *,
    samples: int | None = None,
    features: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    metrics: Sequence[str] = (),
    trust_code: bool = False,
) -> Scores:
    """Score a checkpoint of a run as `ganscale evaluate` does, and return its scores.

    `scores["fid"]` is one of them, `scores.values` are all by name, and printed they are a sentence
    that says what they rest on. They are recorded in the run folder and shown in its report.

    `checkpoint` is `latest`, `best` or a checkpoint's name. `samples` (generated images),
    `features` and `weights` replace what the experiment's `evaluation` says, and
    `metrics` are computed in addition to it. `trust_code` allows code that the run names to be
    executed, even if you have not trained the run on this machine. Where a launcher has started
    several processes, all of them must call this. Raises `GanscaleError` with the message that the
    command prints.
    """
    changes: dict[str, object] = {
        "samples": samples,
        "features": features,
        "metrics": tuple(metrics),
        "weights": None if weights is None else os.fspath(weights),
    }
    with explained():
        _, scores = scoring.evaluate(Path(run), checkpoint, changes, trust_code)
    return scores
