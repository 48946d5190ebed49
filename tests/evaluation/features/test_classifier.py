"""The classifier trains for longer if that may help, and never the same training twice."""

from pathlib import Path

import pytest

from ganscale.data.reading.image_set import ImageSet
from ganscale.evaluation.features import classifier
from tests.conftest import tiny
from tests.evaluation.replay import HOST


@pytest.mark.parametrize(("least", "lengths"), [(2, [3, 6]), (9, [9])])
def test_a_second_training_is_longer_than_the_first(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int, lengths: list[int]
) -> None:
    trained: list[int] = []

    def train(*arguments: object) -> classifier.Classifier:
        trained.append(arguments[2])
        return classifier.Classifier((1, 28, 28), 10).eval()

    monkeypatch.setattr(classifier, "_train", train)
    monkeypatch.setattr(classifier, "BATCH_SIZE", 1797)
    monkeypatch.setattr(classifier, "EPOCHS", (3, 6))
    monkeypatch.setattr(classifier, "MIN_STEPS", least)
    images = ImageSet(tiny(digits, tmp_path).data)
    order = images.order_of_all()
    classifier.train_classifier(images.reader(), order, (1, 28, 28), 10, HOST)
    assert trained == lengths
