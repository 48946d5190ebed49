import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds
from PIL import Image

from ganscale.data.packing.named_sources import digits_source
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import ArraySource, open_source
from ganscale.data.shards.index import LABEL, index_path
from ganscale.data.shards.manifest import load_manifest
from ganscale.errors import GanscaleError
from tests.data.packing.packed import checksums, quiet


def colour_folder(folder: Path) -> Path:
    """Two classes of RGB files of different sizes."""
    for kind, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (folder / kind).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (20 + i, 30), colour).save(folder / kind / f"{i}.png")
    return folder


def test_any_webdataset_program_reads_the_shards(digits: Path) -> None:
    shards = sorted(str(p) for p in digits.glob("*.tar"))
    samples = list(wds.WebDataset(shards, shardshuffle=False, empty_check=False).decode("l8"))
    assert len(samples) == 1797
    truth = digits_source()
    for sample in samples[::100]:
        number = int(sample["__key__"])
        assert sample["cls"] == truth.label(number)
        small = np.asarray(truth.image(number)).astype(float)
        shrunk = np.asarray(Image.fromarray(sample["png"]).resize((8, 8), Image.Resampling.BOX))
        assert np.abs(small - shrunk).mean() < 30
    assert load_manifest(digits).samples == 1797


def test_the_same_input_gives_the_same_bytes_in_any_number_of_processes(tmp_path: Path) -> None:
    source = digits_source()
    for name, processes in (("one", 1), ("two", 2)):
        pack(source, tmp_path / name, Packing(samples_per_shard=900), processes, quiet)
    assert checksums(tmp_path / "one") == checksums(tmp_path / "two")


def test_finished_shards_are_kept_and_the_rest_is_made(tmp_path: Path) -> None:
    packing = Packing(samples_per_shard=500)
    folder = tmp_path / "set"
    pack(digits_source(), folder, packing, 1, quiet)
    whole = checksums(folder)
    (folder / "manifest.json").unlink()
    index_path(folder / "shard-000002.tar").unlink()
    (folder / "shard-000003.tar").write_bytes(b"half a sha")
    index_path(folder / "shard-000003.tar").unlink()
    kept = (folder / "shard-000000.tar").stat().st_mtime_ns
    pack(digits_source(), folder, packing, 1, quiet)
    assert checksums(folder) == whole
    assert (folder / "shard-000000.tar").stat().st_mtime_ns == kept


def test_another_set_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    pack(digits_source(), folder, Packing(), 1, quiet)
    with pytest.raises(GanscaleError, match="another packed dataset"):
        pack(digits_source(), folder, Packing(size=16), 1, quiet)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(GanscaleError, match="not empty"):
        pack(digits_source(), tmp_path / "mine", Packing(), 1, quiet)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_files_with_a_class_for_each_folder(tmp_path: Path, kind: str) -> None:
    images = colour_folder(tmp_path / "images")
    (images / "notes.txt").write_text("no image")
    path = images
    if kind == "zip":
        path = tmp_path / "images.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in images.rglob("*.*"):
                archive.write(file, file.relative_to(images))
    if kind == "tar":
        path = tmp_path / "images.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            tar.add(images, ".")
    source = open_source(str(path))
    manifest, _ = pack(source, tmp_path / "set", Packing(size=16), 1, quiet)
    assert manifest.classes == ("blue", "red")
    assert (manifest.channels, manifest.height, manifest.width) == (3, 16, 16)
    labels = np.load(index_path(tmp_path / "set" / "shard-000000.tar"))[:, LABEL]
    assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 1]


def test_images_in_one_folder_have_no_labels(tmp_path: Path) -> None:
    for i in range(2):
        Image.new("L", (9, 9), i).save(tmp_path / f"{i}.png")
    source = open_source(str(tmp_path))
    manifest, _ = pack(source, tmp_path.parent / "set", Packing(), 1, quiet)
    assert manifest.classes == ()
    assert manifest.channels == 1


def test_an_unreadable_image_is_named_or_skipped(tmp_path: Path) -> None:
    images = colour_folder(tmp_path / "images")
    (images / "red" / "9.png").write_bytes(b"\x89PNG no")
    source = open_source(str(images))
    with pytest.raises(GanscaleError, match=r"red/9\.png"):
        pack(source, tmp_path / "a", Packing(size=8), 1, quiet)
    skip = Packing(size=8, on_error="skip")
    manifest, packed = pack(source, tmp_path / "b", skip, 1, quiet)
    assert manifest.samples == 6
    assert len(packed.skipped) == 1
    assert "red/9.png" in packed.skipped[0]


def test_sizes_must_be_alike_without_a_size(tmp_path: Path) -> None:
    source = open_source(str(colour_folder(tmp_path / "images")))
    with pytest.raises(GanscaleError, match="--size"):
        pack(source, tmp_path / "set", Packing(), 1, quiet)


@pytest.mark.parametrize("content", [None, "text"])
def test_a_folder_without_images(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "a.txt").write_text(content)
    with pytest.raises(GanscaleError, match="no image files"):
        open_source(str(tmp_path))


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(GanscaleError, match="no such source"):
        open_source(str(tmp_path / "nothing"))
    with pytest.raises(GanscaleError, match="--data-root"):
        open_source("mnist", tmp_path)
    (tmp_path / "x.tar").write_bytes(b"no tar")
    with pytest.raises(GanscaleError, match="not a readable tar") as refused:
        open_source(str(tmp_path / "x.tar"))
    assert "\n" not in str(refused.value)
    (tmp_path / "x.JPG").write_bytes(b"an image")
    with pytest.raises(GanscaleError, match=r"x\.JPG: one image; give the folder"):
        open_source(str(tmp_path / "x.JPG"))


def test_colour_modes_become_grey_or_rgb(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    half_clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    half_clear.save(tmp_path / "images" / "a.png")
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "images" / "b.jpg")
    deep = Image.fromarray(np.full((8, 8), 65535, np.uint16))
    deep.save(tmp_path / "images" / "c.png")
    Image.new("P", (8, 8), 0).save(tmp_path / "images" / "d.png")
    source = open_source(str(tmp_path / "images"))
    manifest, packed = pack(source, tmp_path / "set", Packing(channels=3), 1, quiet)
    assert packed.conversions == {"with transparency": 1, "CMYK": 1, "16-bit": 1, "palette": 1}
    shards = [str(tmp_path / "set" / manifest.shards[0].name)]
    dataset = wds.WebDataset(shards, shardshuffle=False, empty_check=False)
    brightness = {s["__key__"]: s["png"].mean() for s in dataset.decode("rgb8")}
    means = [brightness[f"{i:09d}"] for i in range(4)]
    assert means == [255, 255, 255, 0]  # clear on white, no ink, full 16 bits, black


def test_lossless_and_lossy_formats(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    source = ArraySource("noise", noise, np.zeros(4, dtype=np.int64))
    for kind in ("png", "webp", "jpg"):
        manifest, _ = pack(source, tmp_path / kind, Packing(format=kind), 1, quiet)
        shard = str(tmp_path / kind / manifest.shards[0].name)
        dataset = wds.WebDataset([shard], shardshuffle=False, empty_check=False)
        for sample in dataset.decode("rgb8"):
            same = np.array_equal(sample[kind], noise[int(sample["__key__"])])
            assert same == (kind != "jpg")


def test_parts_make_the_set_that_one_packing_makes(tmp_path: Path) -> None:
    source, packing = digits_source(), Packing(samples_per_shard=400)
    whole, _ = pack(source, tmp_path / "whole", packing, 1, quiet)
    made = [pack(source, tmp_path / "parts", packing, 1, quiet, (i, 3))[0] for i in (1, 0, 2)]
    assert made == [None, None, whole]
    for name in ("shard-000003.tar", "manifest.json"):
        parts, one = (tmp_path / "parts" / name), (tmp_path / "whole" / name)
        assert parts.read_bytes() == one.read_bytes()
