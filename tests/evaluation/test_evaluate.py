import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor, nn

from ganscale.data.image_set import ImageSet
from ganscale.data.loader import Ranks, open_reader
from ganscale.data.manifest import load_manifest
from ganscale.errors import GanscaleError
from ganscale.evaluation.evaluate import CACHE, Evaluator
from ganscale.evaluation.samples import generate, to_uint8
from tests.conftest import tiny


class Replay(nn.Module):
    """A perfect generator: its n-th image is the n-th real one."""

    def __init__(self, images: Tensor):
        super().__init__()
        self.images, self.next = images, 0

    def forward(self, latents: Tensor) -> Tensor:
        images = self.images[self.next : self.next + len(latents)]
        self.next += len(latents)
        return images / 127.5 - 1


def test_fid_is_the_papers_distance_and_orders_generators(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, "evaluation.samples=1797")
    device = torch.device("cpu")
    images = ImageSet(experiment.data)
    reader, _ = open_reader(experiment.data, images, Ranks(), device)

    def make() -> Evaluator:
        return Evaluator(experiment, images, reader, device, Ranks(), tmp_path)

    evaluator = make()
    real = reader.read(np.arange(images.samples)).images
    noise = torch.randint(0, 256, real.shape, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(real.float(), 5, 1, 2)

    perfect = evaluator.fid(Replay(real))
    soft = evaluator.fid(Replay(blurred))
    wild = evaluator.fid(Replay(noise))
    assert abs(perfect) < 1e-3 * wild
    assert perfect < soft < wild

    # The formula, with matrix square root and float64, on the same features.
    features = [evaluator._classifier(images).double().numpy() for images in (real, blurred.byte())]
    (m1, c1), (m2, c2) = [(f.mean(0), np.cov(f, rowvar=False)) for f in features]
    root = linalg.sqrtm(c1 @ c2).real
    by_hand = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert evaluator.fid(Replay(blurred.byte())) == pytest.approx(by_hand, rel=1e-3)

    # A second evaluator takes classifier and real statistics from the cache.
    assert (digits / CACHE).is_file()
    stamp = (digits / CACHE).stat().st_mtime_ns
    assert make().fid(Replay(blurred)) == pytest.approx(soft, rel=1e-6)
    assert (digits / CACHE).stat().st_mtime_ns == stamp


def test_a_set_without_labels_is_refused(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path)
    copy = shutil.copytree(digits, tmp_path / "copy")
    load_manifest(digits).model_copy(update={"classes": ()}).save(copy)
    images = ImageSet(tiny(copy, tmp_path).data)
    with pytest.raises(GanscaleError, match="no labels"):
        Evaluator(experiment, images, images.reader(), torch.device("cpu"), Ranks(), tmp_path)


def test_pixels_are_rounded_to_the_nearest() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(pixels / 127.5 - 1), pixels)
    assert to_uint8(torch.tensor([-1.5, 1.5])).tolist() == [0, 255]


def test_a_sample_does_not_depend_on_its_batch(digits: Path, tmp_path: Path) -> None:
    latent = tiny(digits, tmp_path).latent
    network = nn.Sequential(nn.Linear(latent.dim, 4), nn.Tanh(), nn.Unflatten(1, (1, 2, 2)))

    def samples(rows: range, batch: int) -> Tensor:
        made = generate(network, latent, 1, "sample", rows, batch, torch.device("cpu"))
        return torch.cat(list(made))

    assert torch.equal(samples(range(10), 10)[4:9], samples(range(4, 9), 2))
