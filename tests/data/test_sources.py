"""Each kind of source, with real files."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganscale.data.image_set import ImageSet
from ganscale.data.index_command import index_shards
from ganscale.data.inspect_command import verify, write_sheet
from ganscale.data.manifest import load_manifest
from ganscale.data.pack import Packing, pack
from ganscale.data.sources import open_source
from ganscale.errors import GanscaleError
from tests.data.test_pack import quiet
from tests.data.test_reader import data
from tests.data.test_safety import png, tar


def pictures(folder: Path, number: int = 4) -> Path:
    folder.mkdir()
    for i in range(number):
        Image.new("RGB", (12, 8), (i, 0, 0)).save(folder / f"{i}.png")
    return folder


LABEL_FILES = {
    "a.csv": "file,class\n0.png,cat\n1.png,dog\n2.png,cat\n3.png,eel\n",
    "a.json": json.dumps({f"{i}.png": c for i, c in enumerate(["cat", "dog", "cat", "eel"])}),
    "dataset.json": json.dumps(
        {"labels": [[f"{i}.png", c] for i, c in enumerate(["cat", "dog", "cat", "eel"])]}
    ),
}


@pytest.mark.parametrize("name", LABEL_FILES)
def test_labels_from_a_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(LABEL_FILES[name])
    source = open_source(str(pictures(tmp_path / "images")), labels=file)
    assert source.classes == ("cat", "dog", "eel")
    assert [source.label(i) for i in range(4)] == [0, 1, 0, 2]


def test_label_files_that_are_none(tmp_path: Path) -> None:
    images = pictures(tmp_path / "images")
    (tmp_path / "short.csv").write_text("file,class\n0.png,cat\n")
    with pytest.raises(GanscaleError, match=r"'1\.png' has no label"):
        open_source(str(images), labels=tmp_path / "short.csv")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(GanscaleError, match="not a label file"):
        open_source(str(images), labels=tmp_path / "bad.json")


def test_shards_packed_anew(digits: Path, tmp_path: Path) -> None:
    source = open_source(str(digits))
    assert len(source) == 1797
    manifest, _ = pack(source, tmp_path / "small", Packing(size=14), 1, quiet)
    assert manifest.classes == load_manifest(digits).classes
    assert (manifest.height, manifest.samples) == (14, 1797)
    pattern = open_source(f"{digits}/shard-{{000000..000001}}.tar")
    assert len(pattern) == 800


def test_cropping_and_padding(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = 255
    Image.fromarray(wide).save(images / "wide.png")
    for crop, mean in (("center", 255), ("none", 255 / 4)):
        pack(open_source(str(images)), tmp_path / crop, Packing(size=8, crop=crop), 1, quiet)
        pixels = ImageSet(data(tmp_path / crop, resolution=8, channels=3)).reader()
        assert pixels.read(np.array([0])).images.float().mean().item() == pytest.approx(mean, abs=8)


def test_an_image_is_turned_as_exif_says(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    picture = Image.new("RGB", (8, 8), "black")
    picture.paste("white", (0, 0, 8, 4))  # upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    picture.save(images / "a.jpg", exif=exif, quality=100)
    _, account = pack(open_source(str(images)), tmp_path / "set", Packing(), 1, quiet)
    assert account.kinds == {"rotated by EXIF": 1}
    turned = ImageSet(data(tmp_path / "set", resolution=8, channels=3)).reader()
    pixels = turned.read(np.array([0])).images[0, 0].float()
    assert pixels[:, 4:].mean() > 250
    assert pixels[:, :4].mean() < 5


def test_parquet_and_saved_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = [Image.new("RGB", (6, 6), (40 * i, 0, 0)) for i in range(5)]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    table = datasets.Dataset.from_dict(
        {"image": images, "label": [0, 1, 1, 0, 1]}, features=features
    )
    table.to_parquet(str(tmp_path / "a.parquet"))
    table.save_to_disk(str(tmp_path / "saved"))
    datasets.DatasetDict({"train": table}).save_to_disk(str(tmp_path / "splits"))
    for name in ("a.parquet", "saved", "splits"):
        source = open_source(str(tmp_path / name))
        assert [source.label(i) for i in range(len(source))] == [0, 1, 1, 0, 1]
        assert source.classes == ("no", "yes")
        assert source.image(2).getpixel((0, 0)) == (80, 0, 0)
    with pytest.raises(GanscaleError, match="no split 'test'"):
        open_source(str(tmp_path / "splits"), split="test")
    manifest, _ = pack(open_source(str(tmp_path / "saved")), tmp_path / "set", Packing(), 1, quiet)
    assert manifest.samples == 5


def test_shards_as_img2dataset_writes_them(tmp_path: Path) -> None:
    """Several members a sample, keys in folders, labels in JSON, images of different sizes."""
    for shard in range(2):
        members: dict[str, bytes] = {}
        for i in range(3):
            key = f"{shard:05d}/{i:09d}"
            members[f"{key}.png"] = png(10 + i)
            members[f"{key}.txt"] = b"a caption. with dots."
            members[f"{key}.json"] = json.dumps({"caption": "x", "class": i}).encode()
        tar(tmp_path / f"{shard:05d}.tar", members)
    shards = [str(p) for p in sorted(tmp_path.glob("*.tar"))]
    manifest = index_shards(shards, tmp_path, "class")
    assert (manifest.samples, manifest.varied, manifest.channels) == (6, True, 1)
    assert manifest.classes == ("0", "1", "2")
    batch = ImageSet(data(tmp_path, resolution=8)).reader().read(np.arange(6))
    assert batch.images.shape == (6, 1, 8, 8)
    assert batch.labels.tolist() == [0, 1, 2] * 2
    assert verify(str(tmp_path), manifest, 2) == []
    assert write_sheet(str(tmp_path), manifest, tmp_path).is_file()


def test_inspection_finds_what_was_damaged(digits: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(digits, tmp_path / "set")
    shard = folder / "shard-000002.tar"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert verify(str(folder), load_manifest(folder)) == [
        "shard-000002.tar: its SHA-256 is not the manifest's"
    ]
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"samples": 400', '"samples": 401', 1))
    with pytest.raises(GanscaleError, match="own checksum"):
        load_manifest(folder)


def idx(path: Path, array: np.ndarray) -> None:
    """A file in the format of MNIST: magic number, sizes, bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")]
)
def test_mnist_and_fashion_mnist_in_torchvisions_layout(
    tmp_path: Path, name: str, folder: str
) -> None:
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for split, number in (("train", 6), ("t10k", 3)):
        images = np.arange(number)[:, None, None] * np.ones((1, 28, 28))
        idx(raw / f"{split}-images-idx3-ubyte", images)
        idx(raw / f"{split}-labels-idx1-ubyte", np.arange(number))
    train, test = (open_source(name, tmp_path, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (6, 3)
    assert len(train.classes) == 10
    assert train.label(4) == 4
    assert train.image(4).getpixel((0, 0)) == 4


def test_cifar10_in_torchvisions_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.arange(4, dtype=np.uint8)[:, None] * np.ones((1, 3072), np.uint8)
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": pixels, "labels": [3, 1, 4, 1]}))
    names = {"label_names": list("abcdefghij")}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))
    # torchvision checks the sums of the real files, which are not here.
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(CIFAR10, "test_list", [])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": None})
    source = open_source("cifar10", tmp_path)
    assert source.classes == tuple("abcdefghij")
    assert [source.label(i) for i in range(4)] == [3, 1, 4, 1]
    assert source.image(2).getpixel((5, 5)) == (2, 2, 2)
