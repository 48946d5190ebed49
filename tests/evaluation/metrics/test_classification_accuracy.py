"""CAS: what a classifier learns from a generator whose images are known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid
from torch import Tensor, nn

from ganscale.data.reading.image_set import ImageSet
from ganscale.engines.distributed import Ranks
from ganscale.evaluation.evaluator import Evaluator
from ganscale.evaluation.features import trained
from ganscale.evaluation.metrics.classification_accuracy import ClassificationAccuracy
from ganscale.evaluation.substitutes import SubstituteReader
from tests.conftest import tiny
from tests.evaluation.metrics.compared import comparison
from tests.evaluation.ranks import on_ranks
from tests.evaluation.replay import all_images, make


class Shown(nn.Module):
    """Shows a real training image of the class that it is asked for, or of the one after it."""

    def __init__(self, images: Tensor, labels: Tensor, shift: int = 0):
        super().__init__()
        self.of_class = [images[labels == c].float() / 127.5 - 1 for c in range(10)]
        self.shift = shift

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        picked = (latents[:, 0].abs() * 1e4).long().tolist()
        of_labels = [self.of_class[(c + self.shift) % 10] for c in labels.tolist()]
        return torch.stack([of[i % len(of)] for of, i in zip(of_labels, picked, strict=True)])


@pytest.fixture(scope="module")
def evaluator(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    folder = tmp_path_factory.mktemp("accuracy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "MIN_STEPS", 100)
        return make(tiny(digits, folder, "data.classes=10"), folder)


def training_images(evaluator: Evaluator) -> tuple[Tensor, Tensor]:
    experiment = evaluator._experiment
    images, labels = all_images(experiment), torch.from_numpy(ImageSet(experiment.data).labels())
    seen = torch.arange(len(images)) % trained.HELD_OUT != 0
    return images[seen], labels[seen]


def test_it_is_near_the_real_one_for_real_images_and_nothing_for_wrong_ones(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained, "GOOD_ACCURACY", 0.0)  # a short training will do
    monkeypatch.setattr(trained, "MIN_STEPS", 40)
    seen = training_images(evaluator)
    metric = ClassificationAccuracy()

    def score(generator: nn.Module, ranks: Ranks) -> tuple[float, dict[str, float]]:
        compared = comparison(evaluator, generator, ranks)
        return metric(compared), metric.details(compared)

    found = on_ranks(2, lambda ranks: score(Shown(*seen), ranks))
    right, beside = found[0]
    assert found == [(right, beside)] * 2
    assert beside == {"trained on real images": float(evaluator.network.accuracy)}
    assert right == pytest.approx(beside["trained on real images"], abs=0.2)
    wrong, _ = score(Shown(*seen, shift=1), Ranks())
    assert wrong < 0.2


def test_its_images_teach_another_classifier_as_much(evaluator: Evaluator) -> None:
    """The same reader and a classifier of scikit-learn's: of half of the classes it knows half."""
    images, labels = training_images(evaluator)
    labels = torch.where(labels < 5, labels, -2)
    half = Shown(images, torch.where(labels < 0, torch.arange(len(labels)) % 5 + 5, labels))
    reader = SubstituteReader(comparison(evaluator, half, Ranks()).sources)
    numbers = np.flatnonzero(np.arange(1797) % trained.HELD_OUT)
    made, asked = reader.read(numbers)
    real, truth = reader.read(np.arange(0, 1797, trained.HELD_OUT))
    assert torch.equal(real, all_images(evaluator._experiment)[:: trained.HELD_OUT])
    again, _ = reader.read(numbers)
    assert not torch.equal(made, again)
    learnt = NearestCentroid().fit(made.flatten(1).numpy() / 255, asked.numpy())
    right = learnt.predict(real.flatten(1).numpy() / 255) == truth.numpy()
    assert right[truth.numpy() < 5].mean() > 0.75
    assert right[truth.numpy() >= 5].mean() < 0.5
