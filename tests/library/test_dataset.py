"""Packing from a program, and a packed dataset in it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

import ganscale
from ganscale.data.packing.sources import ArraySource
from ganscale.errors import GanscaleError


def test_arrays_come_back_as_they_were_packed(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 9, 3), dtype=np.uint8)
    labels = np.arange(30) % 3
    source = ArraySource("noise", images, labels, ("a", "b", "c"))
    dataset = ganscale.pack(source, tmp_path / "noise", samples_per_shard=8)
    assert len(dataset) == 30
    assert dataset.classes == ("a", "b", "c")
    assert dataset.image_shape == (3, 6, 9)
    assert repr(dataset) == "<Dataset noise: 30 images, 3×6×9 of 3 classes>"
    packed = zip(images, labels.tolist(), strict=True)
    found = {image.permute(1, 2, 0).numpy().tobytes(): label for image, label in dataset}
    assert found == {image.tobytes(): label for image, label in packed}


def test_the_command_packs_the_same(tmp_path: Path) -> None:
    from ganscale.cli import main

    dataset = ganscale.pack("digits", tmp_path / "program", size=16, samples_per_shard=700)
    line = [str(tmp_path / "command"), "--size=16", "--samples-per-shard=700", "--processes=1"]
    assert main(["pack", "digits", *line]) == 0
    shards = sorted((tmp_path / "command").glob("*.tar"))
    assert len(shards) == 3
    for shard in shards:
        assert shard.read_bytes() == (tmp_path / "program" / shard.name).read_bytes()
    again = ganscale.pack("digits", tmp_path / "program", size=16, samples_per_shard=700)
    assert torch.equal(again[5][0], dataset[5][0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_reads_it(digits: Path, workers: int) -> None:
    dataset = ganscale.Dataset(digits)
    assert len(dataset) == 1797
    assert dataset.classes == tuple("0123456789")
    loader = DataLoader(dataset, batch_size=600, num_workers=workers)
    batches = list(loader)
    images = torch.cat([images for images, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    assert images.shape == (1797, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert torch.bincount(labels).tolist() == np.bincount(load_digits().target).tolist()
    for i in (0, 399, 400, 1796, -1):
        image, label = dataset[i]
        assert image.is_contiguous()
        assert torch.equal(image, images[i])
        assert label == labels[i]


def test_what_is_not_there_is_an_error(digits: Path, tmp_path: Path) -> None:
    dataset = ganscale.Dataset(str(digits))
    for i in (1797, -1798):
        with pytest.raises(IndexError, match=rf"sample {i} of 1,797"):
            dataset[i]
    with pytest.raises(GanscaleError, match="not a packed dataset"):
        ganscale.Dataset(tmp_path)
    with pytest.raises(GanscaleError, match="holds images of 28×28: leave size out"):
        ganscale.Dataset(digits, size=32)
    with pytest.raises(GanscaleError, match=r"format='gif': use png or jpg or webp"):
        ganscale.pack("digits", tmp_path / "x", format="gif")  # type: ignore[arg-type]


def test_images_of_mixed_sizes_are_resized(tmp_path: Path) -> None:
    import tarfile

    from ganscale.cli import main

    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i, side in enumerate((8, 12, 20)):
            path = tmp_path / f"{i}.png"
            Image.new("RGB", (side, side), (i, 2, 3)).save(path)
            tar.add(path, f"{i}.png")
    assert main(["index", str(tmp_path / "a.tar"), "--out", str(tmp_path / "indexed")]) == 0
    with pytest.raises(GanscaleError, match=r"differ in size; .* size=64\)"):
        ganscale.Dataset(tmp_path / "indexed")
    dataset = ganscale.Dataset(tmp_path / "indexed", size=(10, 16))
    assert [image.shape for image, _ in dataset] == [(3, 10, 16)] * 3
    assert sorted(int(image[0, 5, 5]) for image, _ in dataset) == [0, 1, 2]
