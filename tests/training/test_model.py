"""What the two players and the average are, beside their steps."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganscale.engines.launcher import Launcher
from ganscale.training.trainer import Trainer
from tests.conftest import tiny
from tests.evaluation.sets import digit_arrays, packed, rank


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
