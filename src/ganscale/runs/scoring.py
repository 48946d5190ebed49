"""`ganscale evaluate`: score a checkpoint in one process, and update what the run shows."""

import logging
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ganscale.config import Data, Experiment
from ganscale.config.experiment import EACH_MISTAKE
from ganscale.config.mistakes import explain
from ganscale.data.packing.copies import Copies, is_source
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.resident import open_reader
from ganscale.data.shards.manifest import MANIFEST
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from ganscale.evaluation.evaluator import Evaluator
from ganscale.evaluation.scores import Scores
from ganscale.monitoring.environment import environment
from ganscale.runs import checkpoint
from ganscale.runs.gallery import draw_gallery
from ganscale.runs.report import write_report
from ganscale.runs.sampler import Sampler
from ganscale.runs.trust import is_own_wandb

log = logging.getLogger("ganscale")


def evaluate(
    run: Path, name: str, changes: dict[str, object], trust_code: bool = False
) -> tuple[Path, Scores]:
    """Score the checkpoint called `name`; return its path and the scores.

    The scores are recorded in the run folder and shown in its report and, if this user trained the
    run, in W&B. The gallery is drawn again for the best checkpoint, which may have changed.
    `changes` are values that replace some of the experiment's `evaluation`; None leaves one as it
    is.
    """
    sampler = Sampler(run, name, trust_code=trust_code)
    folder, experiment = sampler.folder, sampler.experiment
    evaluator = _open_evaluator(_with_evaluation(experiment, changes), sampler)
    scores = evaluator.scores(sampler.generator)
    state = checkpoint.read_state(sampler.checkpoint)
    scores.record(folder.evaluations, state.step, state.images)
    best = folder.best_checkpoint(experiment.evaluation)
    same = best in (None, sampler.checkpoint)
    shown = sampler if same else Sampler(run, "best", trust_code=trust_code)
    log.info("drawing the gallery of %s", shown.checkpoint.name)
    draw_gallery(shown, evaluator)
    log.info("writing %s", folder.report)
    write_report(folder, experiment, environment())
    about = {"step": state.step, "samples": scores.samples, "features": scores.features}
    summary = {f"evaluation_{key}": value for key, value in {**scores.values, **about}.items()}
    _update_wandb(sampler, state.wandb_id, summary)
    return sampler.checkpoint, scores


def _update_wandb(sampler: Sampler, wandb_id: str | None, summary: dict[str, Any]) -> None:
    """Add numbers to the run's W&B summary, unless it is being trained or is someone else's."""
    if wandb_id is None:
        return
    from ganscale.monitoring.trackers import wandb_tracker  # imports Accelerate

    run = sampler.folder.path
    if not wandb_tracker.uses_wandb(sampler.experiment):
        return
    if sampler.folder.is_being_trained():
        log.info("%s is being trained: only the process that trains it logs to W&B", run)
    elif not is_own_wandb(run, wandb_id):
        log.info(
            "%s: the scores are not sent to W&B. There is no record that your account trained this "
            "run in this folder, so its W&B id (%s) might belong to another of your runs.",
            run,
            wandb_id,
        )
    else:
        wandb_tracker.summarize_in_wandb(sampler.experiment, run, wandb_id, summary)


def _with_evaluation(experiment: Experiment, changes: dict[str, object]) -> Experiment:
    """Return the experiment with some values of its `evaluation` replaced."""
    values = experiment.model_dump(mode="json")
    values["evaluation"] |= {key: value for key, value in changes.items() if value is not None}
    try:
        return Experiment.model_validate(values, context=EACH_MISTAKE)
    except ValidationError as error:
        raise GanscaleError(explain(error.errors()[0], values)) from None


def _packed_path(data: Data, sampler: Sampler) -> str:
    """Return `data.path`, or the packed copy of the images that the checkpoint was trained on.

    A stranger's run could name any folder of this machine, so nothing is packed here.
    """
    if data.mixture or (Path(data.path) / MANIFEST).is_file():
        return data.path
    copies = Copies(data)
    copy = copies.find_fingerprint(checkpoint.read_state(sampler.checkpoint).data_fingerprint)
    if copy is not None:
        return str(copy)
    if is_source(data.path, data):
        raise GanscaleError(
            f"{data.path}: the copy that {sampler.folder.path} was trained on is not in "
            f"{copies.folder}; ganscale train {sampler.folder.path / 'experiment.yaml'} packs it "
            "again"
        )
    return data.path


def _open_evaluator(experiment: Experiment, sampler: Sampler) -> Evaluator:
    # A stranger's run must not choose which folder of this machine is filled, or how far.
    defaults = Data()
    data = experiment.data.model_copy(
        update={"cache": defaults.cache, "cache_gib": defaults.cache_gib}
    )
    data = data.model_copy(update={"path": _packed_path(experiment.data, sampler)})
    images = ImageSet(data)
    reader, _ = open_reader(data, images, Ranks(), sampler.device)
    run = sampler.folder.path
    experiment = experiment.model_copy(update={"data": data})
    return Evaluator(experiment, images, reader, sampler.device, Ranks(), run)
