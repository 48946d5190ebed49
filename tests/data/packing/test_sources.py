"""Each kind of source, with real files."""

import gzip
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.text import Text

from ganscale.cli import main
from ganscale.commands.inspect import write_sheet
from ganscale.commands.pack import _part, _task
from ganscale.data.inspection import summary, verify
from ganscale.data.packing.foreign_shards import index_shards
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import ArraySource, open_source
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.shards.manifest import load_manifest
from ganscale.errors import GanscaleError
from tests.data.forging import png, tar
from tests.data.packing.packed import quiet
from tests.data.reading.sets import data


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


def test_the_centre_is_cut_to_an_aspect_that_is_not_square(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    wide = np.zeros((16, 48), np.uint8)
    wide[:, 12:36] = 200  # the middle, at 2 to 3
    wide[:, 22:26] = 100
    Image.fromarray(wide).save(images / "wide.png")
    for crop, kept in (("center", 1.0), ("none", 0.5)):
        packing = Packing(size=(8, 12), crop=crop)
        manifest, _ = pack(open_source(str(images)), tmp_path / crop, packing, 1, quiet)
        assert manifest is not None
        assert (manifest.height, manifest.width) == (8, 12)
        pixels = ImageSet(data(tmp_path / crop, resolution="8x12")).reader().read(np.array([0]))
        assert pixels.images.shape == (1, 1, 8, 12)
        assert (pixels.images[0, 0, 4] > 50).float().mean().item() == pytest.approx(kept, abs=0.05)
    with pytest.raises(GanscaleError, match=r"holds 8×12 images.*--size 16, or train with data"):
        ImageSet(data(tmp_path / "center", resolution=16))


def test_an_image_is_turned_as_exif_says(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    picture = Image.new("RGB", (8, 8), "black")
    picture.paste("white", (0, 0, 8, 4))  # upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    picture.save(images / "a.jpg", exif=exif, quality=100)
    _, packed = pack(open_source(str(images)), tmp_path / "set", Packing(), 1, quiet)
    assert packed.conversions == {"rotated by EXIF": 1}
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
        source = open_source(str(tmp_path / name), workspace=tmp_path / "work")
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
    assert (manifest.samples, manifest.has_mixed_sizes, manifest.channels) == (6, True, 1)
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
        "shard-000002.tar: its SHA-256 differs from the manifest's"
    ]
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"samples": 400', '"samples": 401', 1))
    with pytest.raises(GanscaleError, match="checksum mismatch"):
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


# -- sources that strangers made -------------------------------------------------------------


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def corrupted(path: Path) -> None:
    """Change the compressed bytes of the first member, and nothing else."""
    content = bytearray(path.read_bytes())
    start = 30 + int.from_bytes(content[26:28], "little") + int.from_bytes(content[28:30], "little")
    content[start : start + 20] = bytes(20)
    path.write_bytes(content)


def encrypted(path: Path) -> None:
    """Say of every member that it is encrypted."""
    content = path.read_bytes()
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.find(signature)
        while at >= 0:
            content = content[: at + flags] + b"\1\0" + content[at + flags + 2 :]
            at = content.find(signature, at + 4)
    path.write_bytes(content)


def of_an_unknown_method(path: Path) -> None:
    content = path.read_bytes().replace(b"\x08\0\x08\0", b"\x08\0\x08\0")
    for signature, method in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        at = content.find(signature)
        content = content[: at + method] + b"\x63\0" + content[at + method + 2 :]
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [corrupted, encrypted, of_an_unknown_method])
def test_a_zip_whose_first_image_cannot_be_read(tmp_path: Path, damage: Any) -> None:
    path = archive(tmp_path / "x.zip", {"a.png": png(8), "b.png": png(8)})
    damage(path)
    source = open_source(str(path))
    with pytest.raises(GanscaleError, match=r"x\.zip: 'a\.png' is not a readable image"):
        pack(source, tmp_path / "raise", Packing(), 1, quiet)
    skip = Packing(on_error="skip")
    if damage is encrypted:  # all of it
        with pytest.raises(GanscaleError, match="none of its images could be read"):
            pack(source, tmp_path / "skip", skip, 1, quiet)
        return
    manifest, packed = pack(source, tmp_path / "skip", skip, 1, quiet)
    assert manifest is not None
    assert (manifest.samples, len(packed.skipped)) == (1, 1)


def test_an_archive_whose_image_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganscale.data.packing.file_sources.MAX_IMAGE_BYTES", 10**6)
    bomb = {"a.png": bytes(10**6 + 1)}
    tar(tmp_path / "x.tar", bomb)
    with gzip.open(tmp_path / "y.tar.gz", "wb") as file:
        file.write((tmp_path / "x.tar").read_bytes())
    for path in (archive(tmp_path / "x.zip", bomb), tmp_path / "y.tar.gz"):
        with pytest.raises(GanscaleError, match="1,000,001 bytes are too many"):
            open_source(str(path)).image(0)


@pytest.mark.parametrize("cut", [0.3, 0.9])
@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_compressed_tars_that_are_cut(tmp_path: Path, kind: str, cut: float) -> None:
    path = tmp_path / f"x.tar.{kind}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    with tarfile.open(path, f"w:{kind}") as file:  # type: ignore[call-overload]
        file.add(tmp_path / "a.png", "a.png")
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(GanscaleError, match=r"x\.tar"):
        open_source(str(path)).image(0)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"x" * 999])
def test_parquet_that_is_none(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(GanscaleError, match=r"a\.parquet: not a readable parquet file"):
        open_source(str(tmp_path / "a.parquet"), workspace=tmp_path / "work")


def test_a_table_with_rows_that_cannot_be_used(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"bytes": b"no image", "path": None}, {"bytes": None, "path": "/etc/passwd"}, None]
    table = datasets.Dataset.from_dict({"image": rows, "label": [30, 7, 7]})
    table.to_parquet(str(tmp_path / "a.parquet"))
    source = open_source(str(tmp_path / "a.parquet"), workspace=tmp_path / "work")
    assert source.classes == ("7", "30")
    assert [source.label(i) for i in range(3)] == [1, 0, 0]
    for i in range(3):
        with pytest.raises(GanscaleError, match=rf"row {i}"):
            source.image(i)


def test_rows_without_a_class_have_none(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    image = [{"bytes": png(8), "path": None}] * 3
    for kind in (datasets.ClassLabel(names=["no", "yes"]), datasets.Value("int64")):
        features = datasets.Features({"image": datasets.Image(), "label": kind})
        table = datasets.Dataset.from_dict({"image": image, "label": [1, None, 0]}, features)
        table.to_parquet(str(tmp_path / "a.parquet"))
        source = open_source(str(tmp_path / "a.parquet"), workspace=tmp_path / "work")
        assert [source.label(i) for i in range(3)] == [1, -1, 0]
        assert len(source.classes) == 2


def test_a_column_of_images_that_are_numbers(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"image": [1, 2]}).to_parquet(str(tmp_path / "a.parquet"))
    with pytest.raises(GanscaleError, match=r"a\.parquet: no column holds images .* are image"):
        open_source(str(tmp_path / "a.parquet"), workspace=tmp_path / "work")


def test_a_saved_dataset_that_is_damaged_where_its_labels_lie(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    image = [{"bytes": png(8), "path": None}] * 3
    labels = ["\u00e9" * 9000] * 3
    table = datasets.Dataset.from_dict({"image": image, "label": labels})
    table.save_to_disk(str(tmp_path / "saved"))
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    content = arrow.read_bytes()
    arrow.write_bytes(content.replace("\u00e9".encode(), b"\xff\xff"))
    with pytest.raises(GanscaleError, match=r"saved: not a readable dataset"):
        open_source(str(tmp_path / "saved"))


def test_class_numbers_beyond_the_classes(tmp_path: Path) -> None:
    source = ArraySource("x", np.zeros((2, 8, 8), np.uint8), np.array([0, 5]), ("a", "b"))
    with pytest.raises(GanscaleError, match="class number 5, but there are only 2 classes"):
        pack(source, tmp_path / "set", Packing(), 1, quiet)


@pytest.mark.parametrize(
    ("packing", "reason"),
    [
        (Packing(), r"images of 70000×1 pixels; no side may exceed 65,536"),
        (Packing(size=99999999999), r"no side may exceed 65,536: give a smaller --size"),
        (Packing(samples_per_shard=10**9), r"--samples-per-shard must be at most 16,777,216"),
    ],
)
def test_sets_that_no_manifest_can_describe(tmp_path: Path, packing: Packing, reason: str) -> None:
    source = ArraySource("x", np.zeros((1, 1, 70000), np.uint8), np.array([0]))
    with pytest.raises(GanscaleError, match=reason):
        pack(source, tmp_path / "set", packing, 1, quiet)
    assert not (tmp_path / "set").exists()


def test_names_of_skipped_images_are_not_obeyed_by_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = archive(tmp_path / "x.zip", {"a.png": png(8), "\x1b]0;evil\x07.png": b"none"})
    skip = ["--on-error", "skip"]
    assert main(["pack", str(path), str(tmp_path / "set"), *skip]) == 0
    shown = capsys.readouterr().out
    assert "skipped: " in shown
    assert "\\x1b]0;evil\\x07.png" in shown
    assert all(line.isprintable() for line in shown.splitlines())


def test_a_name_is_no_markup_of_the_progress_bar() -> None:
    assert Text.from_markup(_task("[red]a[/]\x1b[2J.zip")).plain == "packing [red]a[/]\\x1b[2J.zip"


def test_folders_whose_names_are_no_numbers_after_all(tmp_path: Path) -> None:
    for name in ("²", "10", "9", "1" * 200, "a\tb\x1b[2J"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "a.png").write_bytes(png(8))
    source = open_source(str(tmp_path / "images"))
    assert source.classes[:2] == ("9", "10")
    manifest, _ = pack(source, tmp_path / "set", Packing(), 1, quiet)
    assert manifest is not None
    assert load_manifest(tmp_path / "set").classes == source.classes
    assert "\x1b" not in "".join(summary(str(tmp_path / "set"), manifest))


def test_folders_whose_names_are_not_utf_8(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"tea"):
        (tmp_path / "images" / os.fsdecode(name)).mkdir(parents=True)
        (tmp_path / "images" / os.fsdecode(name) / "a.png").write_bytes(png(8))
    with pytest.raises(GanscaleError, match=r"'caf\\udce9' is not valid UTF-8; rename"):
        pack(open_source(str(tmp_path / "images")), tmp_path / "set", Packing(), 1, quiet)


def test_files_that_are_pipes_or_something_else(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    os.mkfifo(tmp_path / "images" / "a.png")
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(GanscaleError, match="no image files"):
        open_source(str(tmp_path / "images"))
    (tmp_path / "images" / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1")
    with pytest.raises(GanscaleError, match="not a regular file"):
        open_source(str(tmp_path / "images"), labels=tmp_path / "labels.csv")
    with pytest.raises(GanscaleError, match=r"b\.png' is not a readable image"):
        open_source(str(tmp_path / "images")).image(0)


@pytest.mark.parametrize("content", [b"[" * 10**5, b"\xff\xfe", b"9" * 9999, b"[[1]]", b"3"])
def test_json_that_is_no_label_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(GanscaleError, match="not a label file"):
        open_source(str(pictures(tmp_path / "images")), labels=tmp_path / "a.json")


def test_patterns_that_are_none(tmp_path: Path) -> None:
    for pattern in ("x{0..4.tar", "x{a}}{.tar"):
        with pytest.raises(
            GanscaleError, match=r"not a valid brace pattern|no such|no shards|not a readable"
        ):
            open_source(str(tmp_path / pattern))


@pytest.mark.parametrize("part", ["²/3", "1/", "3/3", "-1/3", "9" * 5000 + "/3", "a/b"])
def test_parts_that_are_none(part: str) -> None:
    with pytest.raises(GanscaleError, match="must be I/N"):
        _part(part)
