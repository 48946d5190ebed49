"""What a look at a user's images finds."""

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganscale.data import survey as module
from ganscale.data.packing.file_sources import FileSource, folder_source, zip_source
from ganscale.data.packing.pack import Progress
from ganscale.data.survey import survey
from tests.data.packing.packed import quiet


@contextmanager
def unseen(phase: str) -> Iterator[Progress]:
    yield quiet


def noise(seed: int, height: int, width: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five good files in two classes, one of them turned; a copy; one that cannot be opened, and
    one that ends early."""
    folder = tmp_path / "photos"
    for kind in ("a", "b"):
        (folder / kind).mkdir(parents=True)
    for i in range(3):
        noise(i, 40, 60).save(folder / "a" / f"{i}.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    noise(3, 50, 80).save(folder / "b" / "turned.jpg", exif=exif)
    Image.fromarray(np.full((30, 30), 65535, np.uint16)).save(folder / "b" / "deep.png")
    shutil.copy(folder / "a" / "0.png", folder / "b" / "copy.png")
    (folder / "b" / "none.gif").write_bytes(b"no image")
    whole = (folder / "a" / "1.png").read_bytes()
    (folder / "b" / "short.png").write_bytes(whole[: len(whole) // 2])
    return folder


def zipped(folder: Path) -> FileSource:
    archive = folder.parent / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, path.relative_to(folder))
    return zip_source(archive)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_sizes_kinds_classes_copies_and_what_is_broken(photos: Path, kind: str) -> None:
    found = survey(folder_source(photos) if kind == "folder" else zipped(photos), unseen)
    assert found.images == 8
    assert sorted(found.sizes.tolist()) == [[30, 30], *[[40, 60]] * 5, [80, 50]]
    assert found.kinds == {"PNG RGB": 5, "JPEG RGB": 1, "PNG I;16 16 bit": 1}
    assert found.classes == {"a": 3, "b": 5}
    assert found.duplicates == [("b/copy.png", "a/0.png")]
    assert [message.partition(":")[0] for message in found.broken] == ["b/none.gif", "b/short.png"]
    assert found.decoded == 6
    assert not found.grey
    assert found.near == []


def test_images_with_the_same_outlines_look_alike(tmp_path: Path) -> None:
    large = noise(0, 8, 9, "L").resize((180, 160), Image.Resampling.NEAREST)
    large.save(tmp_path / "one.png")
    large.resize((90, 80)).save(tmp_path / "smaller.jpg", quality=80)
    noise(1, 8, 9, "L").resize((180, 160), Image.Resampling.NEAREST).save(tmp_path / "two.png")
    for i in range(2):  # plain ones have no outlines
        Image.new("L", (20 + i, 20), 90 + i).save(tmp_path / f"plain{i}.png")
    found = survey(folder_source(tmp_path), unseen)
    assert found.near == [("one.png", "smaller.jpg")]
    assert found.grey


def test_decoding_ends_with_its_time(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DECODE_S", -1.0)
    found = survey(folder_source(photos), unseen)
    assert found.decoded == 0
    assert len(found.sizes) == 7
    assert len(found.broken) == 1
