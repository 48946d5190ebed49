"""Images of any shape go the whole way: packed, trained on, resumed, sampled, scored, exported."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganscale.cli import main
from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.data.reading.batch_source import BatchSource
from ganscale.data.reading.decode import decode_bytes
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.shards.manifest import load_manifest
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from ganscale.library.dataset import Dataset
from ganscale.library.generator import Generator
from ganscale.training.trainer import train

SIZE = (16, 24)
SAMPLES = 24
NETWORKS = {
    "resnet": ("{architecture: resnet, width: 8}", "{architecture: resnet, width: 8}"),
    "mlp": ("{architecture: mlp, hidden: [8]}", "{architecture: mlp, hidden: [8]}"),
}


def arrays(channels: int, dtype: type) -> list[np.ndarray]:
    """Images (H, W, C) whose values use all bits, each channel in a way of its own."""
    rng = np.random.default_rng(channels)
    most = np.iinfo(dtype).max
    plain = rng.integers(0, most, (SAMPLES, *SIZE, channels), dtype, endpoint=True)
    plain[:, :, : SIZE[1] // 2] //= 3  # something to learn
    return list(plain)


def write(folder: Path, images: list[np.ndarray]) -> Path:
    """Two classes of files: pictures where there are such, else arrays, channels last or first."""
    for i, image in enumerate(images):
        path = folder / "ab"[i % 2] / f"{i:03d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if image.dtype == np.uint8 and image.shape[2] == 3:
            Image.fromarray(image).save(path.with_suffix(".png"))
        elif image.dtype == np.uint16 and image.shape[2] == 1:
            Image.fromarray(image[:, :, 0]).save(path.with_suffix(".png"))
        elif image.shape[2] == 2:  # a microscope's way
            pages = [Image.fromarray(page) for page in np.moveaxis(image, 2, 0)]
            pages[0].save(path.with_suffix(".tif"), save_all=True, append_images=pages[1:])
        else:
            np.save(path.with_suffix(".npy"), image if i % 3 else np.moveaxis(image, 2, 0))
    return folder


def experiment(folder: Path, network: str, *overrides: str) -> Experiment:
    generator, discriminator = NETWORKS[network]
    return load(
        None,
        [
            f"name={network}",
            f"runs={folder / 'runs'}",
            f"data.path={folder / 'set'}",
            f"data.resolution={SIZE[0]}x{SIZE[1]}",
            "data.classes=2",
            "data.workers=0",
            "latent.dim=4",
            f"generator.network={generator}",
            f"discriminator.network={discriminator}",
            "train.batch_size=4",
            "evaluation.samples=8",
            "evaluation.every=2",
            "monitoring.pictures=4",
            "monitoring.wandb=disabled",
            "monitoring.trackers=[wandb]",
            *overrides,
        ],
    )


@pytest.mark.parametrize(
    ("channels", "dtype", "flags"),
    [(3, np.uint8, ()), (5, np.uint16, ()), (1, np.uint16, ("--bits", "16")), (2, np.uint8, ())],
)
def test_every_reader_gives_the_values_of_the_files(
    tmp_path: Path, channels: int, dtype: type, flags: tuple[str, ...]
) -> None:
    images, shape = arrays(channels, dtype), pack_them(tmp_path, channels, dtype, *flags)
    manifest = load_manifest(tmp_path / "set")
    assert (manifest.channels, manifest.height, manifest.width) == (channels, *SIZE)
    assert (f"data.channels={manifest.channels}", f"data.bits={manifest.bits}") == shape
    # Manifests of 8 bits are those that earlier versions wrote and read.
    assert ("bits" in (tmp_path / "set" / "manifest.json").read_text()) == (dtype == np.uint16)
    assert main(["inspect", str(tmp_path / "set"), "--verify", "--processes", "1"]) == 0
    values = {np.moveaxis(image, 2, 0).tobytes() for image in images}
    for reader in ("indexed", "resident", "streaming"):
        read = experiment(tmp_path, "mlp", *shape, f"data.reader={reader}", "evaluation.every=null")
        source = BatchSource(read, Ranks(), range(4), torch.device("cpu"))
        for batch in islice(source.batches(0, 3), 3):
            assert {image.numpy().tobytes() for image in batch.images} <= values, reader
    again = ["pack", str(tmp_path / "set"), str(tmp_path / "again"), "--processes", "1"]
    assert main(again) == 0
    assert load_manifest(tmp_path / "again").bits == manifest.bits
    item, _ = Dataset(tmp_path / "set")[3]
    assert item.numpy().tobytes() in values
    for key, wrong in (("channels", 7), ("bits", 24 - manifest.bits)):
        with pytest.raises(GanscaleError, match=rf"--{key} {wrong}, or train with data.{key}="):
            ImageSet(experiment(tmp_path, "mlp", *shape, f"data.{key}={wrong}").data)


def pack_them(folder: Path, channels: int, dtype: type, *flags: str) -> tuple[str, str]:
    """Pack such images into `set`, and return what an experiment says of them."""
    source = write(folder / "images", arrays(channels, dtype))
    packed = ["pack", str(source), str(folder / "set"), "--samples-per-shard", "10", *flags]
    assert main([*packed, "--processes", "1"]) == 0
    return f"data.channels={channels}", f"data.bits={8 * np.dtype(dtype).itemsize}"


def test_five_channels_of_16_bits_that_are_not_square_go_the_whole_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, channels, dtype = "resnet", 5, np.uint16
    monkeypatch.setattr("ganscale.evaluation.features.trained.MIN_STEPS", 2)
    monkeypatch.setattr("ganscale.evaluation.features.trained.EPOCHS", (1,))
    shape, bits = pack_them(tmp_path, channels, dtype), 8 * np.dtype(dtype).itemsize
    for steps in (2, 4):
        assert train(experiment(tmp_path, network, *shape, f"train.steps={steps}")) == 0
    run = tmp_path / "runs" / network
    assert len((run / "evaluations.jsonl").read_text().splitlines()) == 2
    with Image.open(run / "gallery" / "samples.png") as picture:
        assert picture.mode == "RGB"

    out = tmp_path / "x.npz"
    assert main(["sample", str(run), "--num", "5", "--out", str(out)]) == 0
    sampled = np.load(out)["images"]
    assert sampled.shape == (5, *SIZE, channels)
    assert sampled.dtype == dtype
    assert main(["sample", str(run), "--num", "2", "--out", str(tmp_path / "png")]) == 0
    files = sorted((tmp_path / "png").iterdir())
    found = [decode_bytes(f.read_bytes(), (channels, *SIZE), 10**6, bits=bits) for f in files]
    assert np.array_equal(np.moveaxis(np.stack(found), 1, 3), sampled[:2])
    assert main(["evaluate", str(run)]) == 0
    exported = tmp_path / "exported"
    assert main(["export", str(run), "--format", "pretrained", "--out", str(exported)]) == 0
    loaded = Generator.from_pretrained(exported, device="cpu")
    assert loaded.about.image_shape == (channels, *SIZE)
    assert np.array_equal(loaded.sample(5).permute(0, 2, 3, 1).numpy(), sampled)
