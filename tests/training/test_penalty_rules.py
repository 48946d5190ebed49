"""Penalties and discriminators that do not fit each other: told by the layers that are there."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from ganscale.config import Experiment
from ganscale.errors import GanscaleError
from ganscale.training.penalty_rules import refuse_unfit_penalties
from tests.conftest import tiny
from tests.models import make_model


class Normalising(nn.Module):
    """A discriminator of the user's own with BatchNorm, which no option names."""

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits.squeeze(1)


def experiment_with(digits: Path, folder: Path, penalty: str, *overrides: str) -> Experiment:
    penalties = f"objective.penalties=[{{kind: {penalty}, weight: 1}}]"
    values = tiny(digits, folder, penalties, *overrides).model_dump()
    values["discriminator"]["network"] = {"architecture": f"{__file__}:Normalising"}
    return Experiment.model_validate(values)


@pytest.mark.parametrize("penalty", ["wgan_gp", "dragan"])
def test_a_penalty_of_each_image_alone_refuses_batch_norm(
    digits: Path, tmp_path: Path, penalty: str
) -> None:
    with pytest.raises(GanscaleError, match=f"penalties \\({penalty}\\) with BatchNorm"):
        make_model(experiment_with(digits, tmp_path, penalty))


def test_r1_with_batch_norm_is_warned_of(
    digits: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ganscale"):
        make_model(experiment_with(digits, tmp_path, "r1"))
        assert "(r1) with BatchNorm in the discriminator" in caplog.text
        caplog.clear()
        make_model(tiny(digits, tmp_path, "objective.penalties=[{kind: r1, weight: 1}]"))
        assert not caplog.text


def test_a_compiled_penalty_refuses_batch_norm(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(GanscaleError, match="a compiled penalty may not write BatchNorm's"):
        make_model(experiment_with(digits, tmp_path, "r1", "train.compile=true"))


def test_any_penalty_refuses_sync_batch_norm(digits: Path, tmp_path: Path) -> None:
    experiment = experiment_with(digits, tmp_path, "r1", "train.sync_batch_norm=true")
    network = Normalising((1, 28, 28))
    with pytest.raises(GanscaleError, match="SyncBatchNorm has no second derivative"):
        refuse_unfit_penalties(experiment, network)
    refuse_unfit_penalties(experiment, nn.Flatten())
    of_its_own = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    with pytest.raises(GanscaleError, match="SyncBatchNorm has no second derivative"):
        refuse_unfit_penalties(experiment_with(digits, tmp_path, "r1"), of_its_own)
