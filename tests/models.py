"""A model and its step, as the trainer builds them."""

from ganscale.config import Experiment
from ganscale.engines.distributed import Ranks
from ganscale.engines.launcher import Launcher
from ganscale.training.model import GANModel
from ganscale.training.update import GANStep


def make_model(experiment: Experiment) -> GANModel:
    """The model on this rank, on whatever engine the environment asks for."""
    return GANModel(experiment, Launcher.from_environment())


def make_step(experiment: Experiment) -> tuple[GANModel, GANStep]:
    model = make_model(experiment)
    rows = Ranks.started_by(Launcher.from_environment()).rows(experiment.train.batch_size)
    return model, GANStep(experiment, model, rows)
