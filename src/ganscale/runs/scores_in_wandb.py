"""The scores of a finished run, in its W&B run."""

import logging
from collections.abc import Sequence
from typing import Any

from ganscale.config import Experiment
from ganscale.evaluation.scores import Evaluated, read_evaluations
from ganscale.monitoring.metrics_log import last_metrics
from ganscale.monitoring.trackers.chosen import uses_wandb
from ganscale.monitoring.trackers.wandb_tracker import summarize_in_wandb
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.trust import is_own_wandb

log = logging.getLogger("ganscale")


def tell_wandb(
    folder: RunFolder, experiment: Experiment, wandb_id: str | None, lines: Sequence[Evaluated]
) -> None:
    """Tell W&B of evaluations, unless the run is being trained or is someone else's.

    The newest checkpoint's scores are in the run's summary; several are points of a curve, too.
    """
    if wandb_id is None or not uses_wandb(experiment):
        return
    if folder.is_being_trained():
        log.info("%s is being trained: only the process that trains it logs to W&B", folder.path)
    elif not is_own_wandb(folder.path, wandb_id):
        log.info(
            "%s: the scores are not sent to W&B. There is no record that your account trained this "
            "run in this folder, so its W&B id (%s) might belong to another of your runs.",
            folder.path,
            wandb_id,
        )
    else:
        points = {_wandb_step(folder, line): _point(line) for line in lines}
        summary = {**_point(lines[-1]), "evaluation_features": lines[-1]["features"]}
        curve = points if len(points) > 1 else None
        summarize_in_wandb(experiment, folder.path, wandb_id, summary, curve)


def _wandb_step(folder: RunFolder, line: Evaluated) -> int:
    """Return W&B's step for an evaluation: after training's, and the same each time."""
    logged = last_metrics(folder.metrics) or {"step": 0}
    return int(logged["step"]) + 1 + read_evaluations(folder.evaluations).index(dict(line))


def _point(line: Evaluated) -> dict[str, Any]:
    about = {key: line[key] for key in ("step", "images", "samples")}
    return {f"evaluation_{key}": value for key, value in {**line["values"], **about}.items()}
