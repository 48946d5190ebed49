"""`ganscale evaluate`: the score of a checkpoint, on one process."""

from pathlib import Path

from ganscale.data.image_set import ImageSet
from ganscale.data.loader import Ranks, open_reader
from ganscale.evaluation.evaluate import Evaluator
from ganscale.monitoring.progress import set_up_logging
from ganscale.training.sampling import Sampler


def evaluate(run: Path, name: str, samples: int | None) -> tuple[Path, float, int]:
    """The checkpoint called `name`, its FID, and how many images it was computed from."""
    set_up_logging(rank=0)
    sampler = Sampler(run, name)
    experiment = sampler.experiment
    if samples is not None:
        evaluation = experiment.evaluation.model_copy(update={"samples": samples})
        experiment = experiment.model_copy(update={"evaluation": evaluation})
    images = ImageSet(experiment.data)
    reader, _ = open_reader(experiment.data, images, Ranks(), sampler.device)
    evaluator = Evaluator(experiment, images, reader, sampler.device, Ranks(), run)
    return sampler.checkpoint, evaluator.fid(sampler.generator), experiment.evaluation.samples
