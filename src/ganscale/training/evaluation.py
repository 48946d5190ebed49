"""`ganscale evaluate`: the score of a checkpoint, on one process."""

from pathlib import Path

from ganscale.data.loader import Ranks, open_reader
from ganscale.data.manifest import load_manifest
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
    manifest = load_manifest(experiment.data.path)
    reader, _ = open_reader(experiment.data, manifest, Ranks())
    evaluator = Evaluator(experiment, manifest, reader, sampler.device, Ranks(), run)
    return sampler.checkpoint, evaluator.fid(sampler.generator), experiment.evaluation.samples
