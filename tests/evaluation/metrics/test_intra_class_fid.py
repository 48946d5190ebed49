"""iFID against the formula, class by class."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor, nn

from ganscale import randomness
from ganscale.data.reading.image_set import ImageSet
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from ganscale.evaluation.metrics.intra_class_fid import IntraClassFID
from ganscale.gan.sampling import to_pixels
from tests.conftest import tiny
from tests.evaluation.metrics.compared import comparison
from tests.evaluation.ranks import on_ranks
from tests.evaluation.replay import HOST, all_images, make

CONDITIONAL = ("data.classes=10", "evaluation.samples=305", "evaluation.batch_size=13")


class Templates(nn.Module):
    """Each class is the mean of its real images, with noise, and one class is another's."""

    def __init__(self, means: Tensor):
        super().__init__()
        self.means = means

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        shown = torch.where(labels == 7, 3, labels)
        noise = latents[:, :28].sin()[:, None, None, :]
        return (self.means[shown] + 0.3 * noise).clamp(-1, 1)


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    (m1, c1), (m2, c2) = ((f.mean(0), np.cov(f, rowvar=False)) for f in (x, y))
    root = linalg.sqrtm(c1 @ c2 + 1e-9 * np.eye(len(c1))).real
    return float(((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * root))


def test_ifid_is_the_mean_of_the_fids_by_hand_on_any_number_of_ranks(
    digits: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = tiny(digits, tmp_path, *CONDITIONAL)
    evaluator, real = make(experiment, tmp_path), all_images(experiment)
    labels = torch.from_numpy(ImageSet(experiment.data).labels())
    means = torch.stack([real[labels == c].float().mean(0) / 127.5 - 1 for c in range(10)])
    generator = Templates(means)

    def features(images: Tensor) -> np.ndarray:
        found: np.ndarray = evaluator.network.measure(images).features.double().numpy()
        return found

    expected = {}
    for label in range(10):
        latents = randomness.latents(experiment.latent, 0, "classes", label, range(30), HOST)
        made = to_pixels(generator(latents, torch.full((30,), label)))
        expected[str(label)] = by_hand(features(real[labels == label]), features(made))
    metric = IntraClassFID()

    def score(ranks: Ranks) -> tuple[float, dict[str, float]]:
        compared = comparison(evaluator, generator, ranks)
        return metric(compared), metric.details(compared)

    alone, *others = on_ranks(1, score) + on_ranks(3, score)
    assert others == [alone] * 3
    assert alone[1] == pytest.approx(expected, rel=1e-3)
    assert alone[0] == pytest.approx(np.mean(list(expected.values())), rel=1e-3)
    # By what was asked for, not by what it looks like.
    assert alone[1]["7"] > 2 * max(alone[1]["3"], alone[1]["8"])
    with caplog.at_level(logging.WARNING, "ganscale"):
        on_ranks(1, score)
    assert "30 generated images of a class for 128 features" in caplog.text


def test_classes_that_nobody_asks_for_and_too_few_images_are_refused(
    digits: Path, tmp_path: Path
) -> None:
    asked = "evaluation.metrics=[intra_class_fid]"
    with pytest.raises(GanscaleError, match=r"intra_class_fid needs a generator .* data\.classes"):
        make(tiny(digits, tmp_path, asked), tmp_path)
    few = make(tiny(digits, tmp_path, *CONDITIONAL, "evaluation.samples=19", asked), tmp_path)
    with pytest.raises(GanscaleError, match="1 generated images for each of 10 classes"):
        few.scores(Templates(torch.zeros(10, 1, 28, 28)))
