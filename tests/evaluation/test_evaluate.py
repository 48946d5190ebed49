import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor, nn

from ganscale.config import Experiment
from ganscale.data.image_set import ImageSet
from ganscale.data.manifest import load_manifest
from ganscale.data.ranks import Ranks
from ganscale.data.resident import open_reader
from ganscale.errors import GanscaleError
from ganscale.evaluation.evaluate import Evaluator
from ganscale.evaluation.samples import generate, to_uint8
from tests.conftest import tiny

HOST = torch.device("cpu")


class Replay(nn.Module):
    """A perfect generator: its n-th image is the n-th real one."""

    def __init__(self, images: Tensor):
        super().__init__()
        self.images, self.next = images, 0

    def forward(self, latents: Tensor) -> Tensor:
        images = self.images[self.next : self.next + len(latents)]
        self.next += len(latents)
        return images / 127.5 - 1


def make(experiment: Experiment, fallback: Path) -> Evaluator:
    images = ImageSet(experiment.data)
    reader, _ = open_reader(experiment.data, images, Ranks(), HOST)
    return Evaluator(experiment, images, reader, HOST, Ranks(), fallback)


def all_images(experiment: Experiment) -> Tensor:
    images = ImageSet(experiment.data)
    return images.reader().read(np.arange(images.samples)).images


def test_scores_order_generators_and_say_what_they_are(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, "evaluation.samples=1797")
    evaluator = make(experiment, tmp_path)
    real = all_images(experiment)
    noise = torch.randint(0, 256, real.shape, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(real.float(), 5, 1, 2)

    perfect = evaluator.scores(Replay(real))
    soft = evaluator.scores(Replay(blurred)).values
    wild = evaluator.scores(Replay(noise)).values
    best = perfect.values
    assert best["fid"] == pytest.approx(0, abs=1e-6)
    assert best["precision"] == best["recall"] == best["coverage"] == 1
    assert best["fid"] < soft["fid"] < wild["fid"]
    assert best["kid"] < soft["kid"] < wild["kid"]
    assert best["class_entropy"] > 0.99 > wild["class_entropy"]
    assert sum(perfect.class_shares) == pytest.approx(1)
    for said in ("1,797 made against 1,797 real", "% right", "half", "scikit-learn"):
        assert said in str(perfect)
    assert 0 < perfect.floor < soft["fid"]

    # The formula, with matrix square root and float64, on the same features.
    features = [
        evaluator.network.measure(images).features.double().numpy()
        for images in (real, blurred.byte())
    ]
    (m1, c1), (m2, c2) = [(f.mean(0), np.cov(f, rowvar=False)) for f in features]
    root = linalg.sqrtm(c1 @ c2).real
    by_hand = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    found = evaluator.scores(Replay(blurred.byte())).values["fid"]
    assert found == pytest.approx(by_hand, rel=1e-3)


def test_the_real_side_is_measured_once_for_a_set(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, "evaluation.samples=100")
    first = make(experiment, tmp_path)
    files = [digits / "classifier.safetensors", digits / "statistics-classifier.safetensors"]
    stamps = [path.stat().st_mtime_ns for path in files]
    second = make(experiment, tmp_path)
    assert stamps == [path.stat().st_mtime_ns for path in files]
    for key, value in first.real.sums.tensors().items():
        assert torch.equal(value, second.real.sums.tensors()[key]), key

    # Other images under the same path are another set.
    copy = shutil.copytree(digits, tmp_path / "copy")
    manifest = load_manifest(copy)
    manifest.model_copy(update={"shards": manifest.shards[:3]}).save(copy)
    assert make(tiny(copy, tmp_path), tmp_path).real.sums.count == 1200


def test_the_floor_is_one_half_against_the_other(digits: Path, tmp_path: Path) -> None:
    evaluator = make(tiny(digits, tmp_path), tmp_path)
    real = all_images(tiny(digits, tmp_path))
    halves = [
        evaluator.network.measure(real[start::2]).features.double().numpy() for start in (0, 1)
    ]
    (m1, c1), (m2, c2) = [(f.mean(0), np.cov(f, rowvar=False)) for f in halves]
    root = linalg.sqrtm(c1 @ c2).real
    by_hand = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert evaluator.real.floor == pytest.approx(by_hand, rel=1e-3)


def test_a_conditional_generator_is_asked_for_classes_as_the_set_has_them(
    digits: Path, tmp_path: Path
) -> None:
    experiment = tiny(digits, tmp_path, "data.classes=10", "evaluation.samples=5000")
    evaluator = make(experiment, tmp_path)
    asked: list[Tensor] = []

    class Asked(nn.Module):
        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            asked.append(labels)
            return torch.zeros(len(latents), 1, 28, 28)

    evaluator.scores(Asked())
    shares = torch.bincount(torch.cat(asked), minlength=10) / 5000
    expected = evaluator.real.label_counts / 1797
    assert torch.allclose(shares, expected, atol=0.02)


def test_the_nearest_of_a_real_image_is_itself(digits: Path, tmp_path: Path) -> None:
    evaluator = make(tiny(digits, tmp_path), tmp_path)
    images = all_images(tiny(digits, tmp_path))[[3, 500, 1700]]
    nearest = evaluator.nearest(images, 4)
    assert nearest.shape == (3, 4, 1, 28, 28)
    assert torch.equal(nearest[:, 0], images)


def test_a_set_without_labels_needs_inception(digits: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(digits, tmp_path / "copy")
    load_manifest(digits).model_copy(update={"classes": ()}).save(copy)
    missing = f"evaluation.inception_weights={tmp_path / 'none.pth'}"
    with pytest.raises(GanscaleError, match=r"no labels.*none\.pth.*evaluation\.every"):
        make(tiny(copy, tmp_path, missing), tmp_path)
    with pytest.raises(GanscaleError, match="no labels"):
        make(tiny(copy, tmp_path, "evaluation.features=classifier"), tmp_path)


def test_pixels_are_rounded_to_the_nearest() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(pixels / 127.5 - 1), pixels)
    assert to_uint8(torch.tensor([-1.5, 1.5])).tolist() == [0, 255]


def test_a_sample_does_not_depend_on_its_batch(digits: Path, tmp_path: Path) -> None:
    latent = tiny(digits, tmp_path).latent
    network = nn.Sequential(nn.Linear(latent.dim, 4), nn.Tanh(), nn.Unflatten(1, (1, 2, 2)))

    def samples(rows: range, batch: int) -> Tensor:
        made = generate(network, latent, 1, "sample", rows, batch, HOST, lambda _: ())
        return torch.cat(list(made))

    assert torch.equal(samples(range(10), 10)[4:9], samples(range(4, 9), 2))
