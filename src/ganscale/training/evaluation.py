"""`ganscale evaluate`: the scores of a checkpoint, on one process."""

from pathlib import Path

from pydantic import ValidationError

from ganscale.config import Evaluation
from ganscale.data.image_set import ImageSet
from ganscale.data.ranks import Ranks
from ganscale.data.resident import open_reader
from ganscale.errors import GanscaleError
from ganscale.evaluation.evaluate import Evaluator
from ganscale.evaluation.scores import Scores
from ganscale.monitoring.progress import set_up_logging
from ganscale.training import checkpoint
from ganscale.training.gallery import draw_gallery
from ganscale.training.sampling import Sampler


def evaluate(run: Path, name: str, changed: dict[str, object]) -> tuple[Path, Scores]:
    """The checkpoint called `name` and its scores, kept in the run folder; draws its gallery.

    `changed`: keys of the experiment's `evaluation` with other values.
    """
    set_up_logging(rank=0)
    sampler = Sampler(run, name)
    experiment = sampler.experiment
    values = experiment.evaluation.model_dump() | changed
    try:
        evaluation = Evaluation.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise GanscaleError(
            f"evaluation.{first['loc'][0]}={first['input']!r}: {first['msg']}"
        ) from None
    experiment = experiment.model_copy(update={"evaluation": evaluation})
    images = ImageSet(experiment.data)
    reader, _ = open_reader(experiment.data, images, Ranks(), sampler.device)
    evaluator = Evaluator(experiment, images, reader, sampler.device, Ranks(), run)
    scores = evaluator.scores(sampler.generator)
    state = checkpoint.read_state(sampler.checkpoint)
    scores.record(run, state.step, state.images)
    draw_gallery(sampler, evaluator)
    return sampler.checkpoint, scores
