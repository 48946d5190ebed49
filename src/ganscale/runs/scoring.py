"""`ganscale evaluate`: the scores of a checkpoint, on one process, in all that a run shows."""

import logging
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ganscale.config import Data, Evaluation, Experiment
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.resident import open_reader
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from ganscale.evaluation.evaluator import Evaluator
from ganscale.evaluation.scores import Scores
from ganscale.monitoring.environment import environment
from ganscale.monitoring.progress import set_up_logging
from ganscale.monitoring.trackers import summarize_in_wandb, uses_wandb
from ganscale.runs import checkpoint
from ganscale.runs.gallery import draw_gallery
from ganscale.runs.report import write_report
from ganscale.runs.sampler import Sampler
from ganscale.runs.trust import is_own_wandb

log = logging.getLogger("ganscale")


def evaluate(
    run: Path, name: str, changed: dict[str, object], trust_code: bool = False
) -> tuple[Path, Scores]:
    """The checkpoint called `name` and its scores.

    They are kept in the run folder and shown in its report and, where the run is one's own, in W&B.
    The gallery is drawn anew: that of the best checkpoint, which may be another one now. `changed`:
    keys of the experiment's `evaluation` with other values.
    """
    set_up_logging(rank=0)
    sampler = Sampler(run, name, trust_code=trust_code)
    experiment = sampler.experiment
    evaluator = _open_evaluator(_with(experiment, changed), sampler)
    scores = evaluator.scores(sampler.generator)
    state = checkpoint.read_state(sampler.checkpoint)
    scores.record(run, state.step, state.images)
    best = checkpoint.best(sampler.folder.checkpoints, experiment.evaluation)
    same = best in (None, sampler.checkpoint)
    shown = sampler if same else Sampler(run, "best", trust_code=trust_code)
    draw_gallery(shown, evaluator)
    write_report(run, experiment, environment())
    about = {"step": state.step, "samples": scores.samples, "features": scores.features}
    summary = {f"evaluation/{key}": value for key, value in {**scores.values, **about}.items()}
    _tell_wandb(sampler, state.wandb_id, summary)
    return sampler.checkpoint, scores


def _tell_wandb(sampler: Sampler, wandb_id: str | None, summary: dict[str, Any]) -> None:
    """Add numbers to the run's summary in W&B, unless that is for another process, or not ours."""
    run = sampler.folder.path
    if wandb_id is None or not uses_wandb(sampler.experiment):
        return
    if sampler.folder.is_being_trained():
        log.info("%s is being trained: W&B is left to the process that trains it", run)
    elif not is_own_wandb(run, wandb_id):
        log.info(
            "%s: W&B is not told, as your account has no note of having trained this run in this "
            "folder: its id there (%s) could be that of another run of yours",
            run,
            wandb_id,
        )
    else:
        summarize_in_wandb(sampler.experiment, run, wandb_id, summary)


def _with(experiment: Experiment, changed: dict[str, object]) -> Experiment:
    """The experiment with other values in its `evaluation`."""
    try:
        evaluation = Evaluation.model_validate(experiment.evaluation.model_dump() | changed)
    except ValidationError as error:
        first = error.errors()[0]
        raise GanscaleError(
            f"evaluation.{first['loc'][0]}={first['input']!r}: {first['msg']}"
        ) from None
    return experiment.model_copy(update={"evaluation": evaluation})


def _open_evaluator(experiment: Experiment, sampler: Sampler) -> Evaluator:
    # The run may be a stranger's, which does not say what folder here is filled, or how far.
    usual = Data()
    data = experiment.data.model_copy(update={"cache": usual.cache, "cache_gib": usual.cache_gib})
    images = ImageSet(data)
    reader, _ = open_reader(data, images, Ranks(), sampler.device)
    run = sampler.folder.path
    experiment = experiment.model_copy(update={"data": data})
    return Evaluator(experiment, images, reader, sampler.device, Ranks(), run)
