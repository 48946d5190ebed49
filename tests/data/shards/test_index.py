"""The index of a shard: what is refused when it is made, and when it is loaded."""

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
import tracemalloc
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from ganscale.cli import main
from ganscale.commands.inspect import run as inspect
from ganscale.commands.inspect import write_sheet
from ganscale.config import Data
from ganscale.data.packing.foreign_shards import index_shards
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.streaming import stream
from ganscale.data.shards.index import CHECKSUM, LABEL, OFFSET, SIZE, index_path, index_tar
from ganscale.data.shards.manifest import load_manifest
from ganscale.errors import GanscaleError
from tests.data.faulty_server import serving
from tests.data.forging import forge, png, tar

SHARD = "shard-000000.tar"


@pytest.fixture
def copy(digits: Path, tmp_path: Path) -> Path:
    """A set that a test may damage."""
    return shutil.copytree(digits, tmp_path / "copy")


def read(folder: Path, **values: object) -> ImageSet:
    images = ImageSet(Data.model_validate({"path": str(folder), **values}))
    images.reader().read(np.arange(5))
    return images


def test_rows_say_where_the_image_is_its_label_and_its_checksum(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {"a.png": png(8), "a.cls": b"3", "b.png": png(9)})
    table = index_tar(path)
    content = path.read_bytes()
    for row, image in zip(table, (png(8), png(9)), strict=True):
        assert content[row[OFFSET] : row[OFFSET] + row[SIZE]] == image
        assert row[CHECKSUM] == zlib.crc32(image)
    assert table[:, LABEL].tolist() == [3, -1]


def damaged_tables() -> dict[str, tuple[object, str]]:
    def changed(column: int, value: int) -> object:
        def change(table: np.ndarray) -> np.ndarray:
            table[7, column] = value
            return table

        return change

    outside, labels, no_index = (
        "points outside the shard",
        "has labels outside the",
        "is not a numpy file",
    )
    return {
        "far": (changed(OFFSET, 2**62), outside),
        "before": (changed(OFFSET, -512), outside),
        "long": (changed(SIZE, 2**62), outside),
        "negative": (changed(SIZE, -5), outside),
        "label": (changed(LABEL, 10), labels),
        "negative label": (changed(LABEL, -2), labels),
        "short": (lambda table: table[:-1], "399 samples, but the manifest says 400"),
        "floats": (lambda table: table.astype(float), no_index),
        "flat": (lambda table: table.ravel(), no_index),
        "wide": (lambda table: table.repeat(2, axis=1)[:9], no_index),
    }


@pytest.mark.parametrize("damage", damaged_tables())
def test_a_forged_index_is_named(copy: Path, damage: str) -> None:
    change, reason = damaged_tables()[damage]
    index = index_path(copy / SHARD)
    np.save(index, change(np.load(index)))
    with pytest.raises(GanscaleError, match=r"SHA-256 of its index|larger than"):
        read(copy)
    forge(copy)
    with pytest.raises(GanscaleError, match=rf"{SHARD}: .*{reason}"):
        read(copy)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\0", b"\0" * 5000])
def test_bytes_that_are_no_index_are_named(copy: Path, content: bytes) -> None:
    index_path(copy / SHARD).write_bytes(content)
    forge(copy)
    with pytest.raises(GanscaleError, match="its index is not a numpy file"):
        read(copy)


def test_a_shape_that_the_file_does_not_hold_takes_no_memory(copy: Path) -> None:
    index = index_path(copy / SHARD)
    content = index.read_bytes().replace(b"(400, 4), } ", b"(40000000, 4), }")
    index.write_bytes(content)
    forge(copy)
    with pytest.raises(GanscaleError, match=r"its index is not a numpy file|truncated"):
        read(copy)


def test_an_index_that_is_missing_or_a_pipe_is_a_message(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = index_path(copy / SHARD)
    index.unlink()
    options = type("Options", (), {"set": str(copy), "sheet": None, "verify": False})
    with pytest.raises(GanscaleError, match=f"{SHARD}: its index cannot be read"):
        inspect(options)  # type: ignore[arg-type]
    os.mkfifo(index)
    with pytest.raises(GanscaleError, match="not a regular file"):
        read(copy)


def test_an_index_without_checksums_is_read_as_before(copy: Path) -> None:
    truth = ImageSet(Data(path=str(copy))).reader().read(np.arange(1797))
    for index in copy.glob("*.index.npy"):
        np.save(index, np.load(index)[:, :CHECKSUM])
    forge(copy)
    got = ImageSet(Data(path=str(copy))).reader().read(np.arange(1797))
    assert (got.images == truth.images).all()
    assert (got.labels == truth.labels).all()


# -- tars that cannot be indexed -------------------------------------------------------------


@pytest.mark.parametrize(
    "label",
    [b"2000000000", b"9" * 5000, b"-7", "²".encode(), b"1.5", b"\xff", b"", b"0x1", b"1_000"],
    ids=lambda label: label[:8].hex(),
)
def test_classes_that_are_no_small_numbers(tmp_path: Path, label: bytes) -> None:
    path = tar(tmp_path / "x.tar", {"a.png": png(), "a.cls": label})
    with pytest.raises(GanscaleError, match=r"x\.tar: .*sample 'a'"):
        index_shards([str(path)], tmp_path / "index")
    data = Data(path=str(path), resolution=8, workers=0, reader="streaming")
    with pytest.raises(GanscaleError, match=r"class|decode"):
        next(stream(data, (1, 8, 8), 1, 0, 0, 0))


@pytest.mark.parametrize(
    "content",
    [
        b'{"class": 1e400}',
        b'{"class": 99999999999999999999}',
        b'{"class": NaN}',
        b'{"class": true}',
        b'{"class": 2.5}',
        b'{"class": [1]}',
        b'{"other": 1}',
        b"[1]",
        b"[" * 100_000,
        b"no json",
    ],
    ids=lambda content: content[:24].decode(),
)
def test_classes_in_json_that_are_no_small_numbers(tmp_path: Path, content: bytes) -> None:
    path = tar(tmp_path / "x.tar", {"a.png": png(), "a.json": content})
    with pytest.raises(GanscaleError, match=r"x\.tar: .*sample 'a'"):
        index_shards([str(path)], tmp_path / "index", "class")


@pytest.mark.parametrize(("value", "label"), [(3, 3), (3.0, 3), ("3", 3), (-1, -1)])
def test_classes_in_json(tmp_path: Path, value: object, label: int) -> None:
    content = json.dumps({"class": value}).encode()
    path = tar(tmp_path / "x.tar", {"a.png": png(), "a.json": content})
    assert index_tar(path, "class")[:, LABEL].tolist() == [label]


def test_a_compressed_tar_has_no_offsets(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {"a.png": png()})
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(GanscaleError, match="compressed with gzip; decompress it first"):
        index_shards([str(path)], tmp_path / "index")


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
@pytest.mark.parametrize("place", ["folder", "server"])
def test_a_compressed_tar_is_not_inflated_by_a_stream(
    tmp_path: Path, module: ModuleType, place: str
) -> None:
    sound = tar(tmp_path / "0.tar", {"a.png": png()})
    (tmp_path / "1.tar").write_bytes(module.compress(sound.read_bytes()))
    with serving(tmp_path) as server:
        folder = server.url if place == "server" else str(tmp_path)
        data = Data(path=f"{folder}/1.tar", reader="streaming", workers=0, resolution=8)
        data = data.model_copy(update={"cache": str(tmp_path / "cache")})
        with pytest.raises(
            GanscaleError, match=r"1\.tar: compressed with \w+; decompress it first"
        ):
            next(stream(data, (1, 8, 8), 1, 0, 0, 0))
        data = data.model_copy(update={"path": f"{folder}/{{0..1}}.tar", "on_error": "skip"})
        assert next(stream(data, (1, 8, 8), 1, 0, 0, 0)).labels.tolist() == [-1]


@pytest.mark.parametrize("address", ["file:///x.tar", "sftp://host/x.tar", "http://x::http://y"])
def test_addresses_that_no_reader_fetches_are_not_indexed(tmp_path: Path, address: str) -> None:
    with pytest.raises(GanscaleError, match="such addresses are not fetched; give a path"):
        index_shards([address], tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_images_too_long_for_a_manifest(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (70000, 1)).save(buffer, "PNG")
    path = tar(tmp_path / "x.tar", {"a.png": buffer.getvalue()})
    with pytest.raises(
        GanscaleError, match=r"x\.tar: images of 70000×1 pixels; no side may exceed"
    ):
        index_shards([str(path)], tmp_path / "index")


def test_a_shard_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    path = tar(tmp_path / os.fsdecode(b"caf\xe9.tar"), {"a.png": png()})
    with pytest.raises(GanscaleError, match=r"cannot be described in a manifest .*name"):
        index_shards([str(path)], tmp_path / "index")


def test_a_damaged_header_is_not_the_end_of_the_archive(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {f"{i}.png": png() for i in range(9)})
    content = bytearray(path.read_bytes())
    content[4 * 1024 + 3] ^= 1  # the header of the fifth member
    path.write_bytes(content)
    with pytest.raises(GanscaleError, match="damaged or truncated at byte 4,096"):
        index_tar(path)
    path.write_bytes(content[: 4 * 1024])
    with pytest.raises(GanscaleError, match="damaged or truncated at byte 4,096"):
        index_tar(path)


def test_members_without_bytes_of_their_own(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE):
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            info = tarfile.TarInfo("a.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        with pytest.raises(GanscaleError, match="not a readable shard"):
            index_tar(tmp_path / "x.tar")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.tar")
    with pytest.raises(GanscaleError, match="not a regular file"):
        index_tar(tmp_path / "x.tar")
    data = Data(path=str(tmp_path / "x.tar"), resolution=8, workers=0, reader="streaming")
    with pytest.raises(GanscaleError, match="not a regular file"):
        next(stream(data, (1, 8, 8), 1, 0, 0, 0))


def test_a_png_whose_text_is_a_bomb_is_left_to_the_reader(tmp_path: Path) -> None:
    content = png()
    text = b"zTXtk\0\0" + zlib.compress(b"\0" * 10**8)
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    evil = content[:33] + chunk + content[33:]
    path = tar(tmp_path / "x.tar", {"a.png": content, "b.png": evil})
    index_shards([str(path)], tmp_path / "index")
    reader = ImageSet(Data(path=str(tmp_path / "index"), resolution=8)).reader()
    with pytest.raises(GanscaleError, match=r"sample 'b\.png'"):
        reader.read(np.array([1]))


def test_a_forged_size_is_not_read_for_the_sheet(copy: Path, tmp_path: Path) -> None:
    table = np.load(index_path(copy / SHARD))
    table[0, SIZE] = 1 << 31
    np.save(index_path(copy / SHARD), table)
    forge(copy)
    manifest = load_manifest(copy)
    (first, *others) = manifest.shards
    first = first.model_copy(update={"bytes": 1 << 32})
    manifest.model_copy(update={"shards": (first, *others)}).save(copy)
    tracemalloc.start()
    try:
        with pytest.raises(GanscaleError, match=r"bytes, but the manifest says 4,294,967,296"):
            write_sheet(str(copy), load_manifest(copy), tmp_path / "sheet.png")
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()


def test_names_of_members_are_not_obeyed_by_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tar(tmp_path / "x.tar", {"\x1b]0;evil\x07\x1b[2J.txt": b""})
    assert main(["index", str(path), "--out", str(tmp_path / "set")]) == 1
    shown = capsys.readouterr().err
    assert "\\x1b]0;evil\\x07" in shown
    assert shown.strip().isprintable()


# -- manifests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shards": []}, "shards"),
        ({"channels": 65}, "channels"),
        ({"bits": 12}, "bits"),
        ({"height": None, "width": None, "bits": 16}, "images of different sizes must have"),
        ({"format": 99}, "format"),
        ({"height": 0}, "height"),
        ({"height": None}, "height and width must both be given"),
        ({"height": 10**9, "width": 10**9}, "height"),
        ({"classes": 5}, "classes"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_manifests_of_nothing_that_is_known(
    copy: Path, changes: dict[str, object], reason: str
) -> None:
    path = copy / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(GanscaleError, match=rf"manifest\.json is invalid \(.*{reason}"):
        load_manifest(copy)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"samples": -1}, "samples"),
        ({"samples": 0}, "without samples"),
        ({"samples": 10**30}, "samples"),
        ({"samples": 2**40}, r"cannot have [\d,]+ samples in [\d,]+ bytes"),
        ({"samples": 2**40, "bytes": 2**50}, "16,777,216 samples are the maximum"),
        ({"bytes": -1}, "bytes"),
        ({"sha256": "x"}, "sha256"),
        ({"name": ""}, "not a valid file name"),
        ({"name": ".."}, "not a valid file name"),
        ({"name": "a\0b"}, "not a valid file name"),
        ({"name": "file:///etc/passwd"}, "such addresses are not fetched"),
        ({"name": "reference://x"}, "such addresses are not fetched"),
        ({"name": "http://x::file:///etc/passwd"}, "such addresses are not fetched"),
        ({"index": "file:///etc/passwd"}, "such addresses are not fetched"),
    ],
)
def test_shards_that_no_manifest_may_name(
    copy: Path, changes: dict[str, object], reason: str
) -> None:
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"][1].update(changes)
    path.write_text(json.dumps(manifest))
    with pytest.raises(GanscaleError, match=rf"manifest\.json is invalid \(.*{reason}"):
        load_manifest(copy)


@pytest.mark.parametrize("content", [b"[" * 10**6, b"\xff", b"9" * 5000, b"null", b'"x"'])
def test_json_that_is_no_manifest(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(GanscaleError, match=r"manifest\.json is invalid"):
        load_manifest(tmp_path)


def test_a_manifest_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(GanscaleError, match="not a regular file"):
        load_manifest(tmp_path)


def test_the_tar_that_webdataset_writes_ends_as_it_must(tmp_path: Path) -> None:
    """Guard of `damaged or truncated`: members of any size, padded to any record."""
    for size in (0, 1, 511, 512, 513, 10240):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            info = tarfile.TarInfo("a.png")
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))
        (tmp_path / "x.tar").write_bytes(buffer.getvalue())
        assert index_tar(tmp_path / "x.tar")[:, SIZE].tolist() == [size]
