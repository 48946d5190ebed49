"""A run of a conditional generator, for tests of what is made with one."""

from pathlib import Path

from ganscale.config import Experiment
from ganscale.training.trainer import train
from tests.conftest import tiny


def conditional_run(digits: Path, folder: Path) -> Path:
    """Train a tiny one for two steps and return the run's folder."""
    values = tiny(digits, folder, "train.steps=2").model_dump(mode="json")
    values["data"]["classes"] = 10
    network = {"architecture": "dcgan", "width": 4}
    values["generator"]["network"] = values["discriminator"]["network"] = network
    experiment = Experiment.model_validate(values)
    train(experiment)
    return experiment.folder
