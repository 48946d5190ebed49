"""What the two players and the average are, beside their steps."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganscale.config import Experiment
from ganscale.engines.launcher import Launcher
from ganscale.runs import checkpoint
from ganscale.training.trainer import Trainer
from tests.conftest import tiny
from tests.evaluation.sets import digit_arrays, packed, rank
from tests.models import make_step
from tests.reference import real_batches


def test_the_average_sees_classes_as_often_as_the_dataset_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = digit_arrays()
    kept = (labels == 0) | ((labels == 1) & (rank(labels) < 20))
    path = packed(tmp_path / "set", images[kept], labels[kept], 2)
    model = Trainer(tiny(path, tmp_path, "data.classes=2"), Launcher()).model
    batches: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(model.average, "snapshot", batches.extend)
    model.sampled_network()
    assert len(batches) == 16
    found = torch.stack([drawn.double().mean() for _, drawn in batches])
    assert found.mean().item() == pytest.approx((labels[kept] == 1).mean(), abs=0.02)
    assert found.std() > 0  # drawn anew for each batch


def test_a_restored_model_in_channels_last_goes_on_as_it_was(digits: Path, tmp_path: Path) -> None:
    """A checkpoint holds moments row by row, and Adam goes through them as the weights lie."""
    network = {"architecture": "dcgan", "width": 4, "norm": "none"}
    values = tiny(digits, tmp_path, "train.channels_last=true").model_dump(mode="json")
    values["generator"]["network"] = values["discriminator"]["network"] = network
    experiment = Experiment.model_validate(values)
    batches = real_batches(experiment, 0, 2)
    model, step = make_step(experiment)
    step(0, batches[:1], False)
    state = checkpoint.State(step=1, images=8, data_fingerprint="")
    path = checkpoint.write(tmp_path, state, model.weights(), model.training_state())
    restored, step_again = make_step(experiment)
    restored.restore(path)
    step(1, batches[1:], False)
    step_again(1, batches[1:], False)
    moments = model.discriminator.optimizer.state.values()
    assert any(not own["exp_avg"].is_contiguous() for own in moments)
    for part, weights in model.weights().items():
        for name, value in weights.items():
            assert torch.equal(value, restored.weights()[part][name]), f"{part} {name}"
