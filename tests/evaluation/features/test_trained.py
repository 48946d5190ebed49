"""A network trains for longer if that may help, and never the same training twice."""

from pathlib import Path

import pytest
import torch

from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.order import Indices
from ganscale.data.reading.readers import Batch, Reader
from ganscale.evaluation.features import trained
from ganscale.evaluation.features.classifier import Classifier
from ganscale.evaluation.features.rotations import Rotations
from ganscale.evaluation.features.trained import TrainedNetwork
from tests.conftest import tiny
from tests.evaluation.replay import HOST


@pytest.mark.parametrize(("least", "lengths"), [(2, [3, 6]), (9, [9])])
def test_a_second_training_is_longer_than_the_first(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int, lengths: list[int]
) -> None:
    lasted: list[int] = []

    def train(network: TrainedNetwork, *arguments: object) -> None:
        network.eval()
        lasted.append(arguments[2])

    monkeypatch.setattr(trained, "_train", train)
    monkeypatch.setattr(trained, "BATCH_SIZE", 1797)
    monkeypatch.setattr(trained, "EPOCHS", (3, 6))
    monkeypatch.setattr(trained, "MIN_STEPS", least)
    images = ImageSet(tiny(digits, tmp_path).data)
    trained.train(Classifier.untrained(images), images.reader(), images.order_of_all(), HOST)
    assert lasted == lengths


@pytest.mark.parametrize("kind", [Classifier, Rotations])
def test_a_training_depends_on_no_other_random_numbers_and_not_on_what_is_held_out(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[TrainedNetwork]
) -> None:
    monkeypatch.setattr(trained, "MIN_STEPS", 2)
    monkeypatch.setattr(trained, "EPOCHS", (0,))
    monkeypatch.setattr(trained, "MOST_HELD_OUT", 10)
    images = ImageSet(tiny(digits, tmp_path).data)
    reader, found, read = images.reader(), [], []

    class Watched(Reader):
        def read(self, indices: Indices) -> Batch:
            read.append(indices)
            return reader.read(indices)

    for seed in range(2):
        torch.manual_seed(seed)
        network, order = kind.untrained(images), images.order_of_all()
        found.append(trained.train(network, Watched(), order, HOST))
    held_out = [bool((numbers % trained.HELD_OUT == 0).any()) for numbers in read]
    assert held_out == [False, False, True] * 2  # two steps, and the accuracy
    for key, value in found[0].items():
        assert torch.equal(value, found[1][key]), key
