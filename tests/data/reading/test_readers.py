import io
import logging
import shutil
import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import ArraySource
from ganscale.data.reading.decode import decode_bytes
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.loader import BatchDataset, batches
from ganscale.data.reading.readers import IndexedReader
from ganscale.data.reading.resident import ResidentReader, open_reader
from ganscale.data.shards.index import LABEL, OFFSET, SIZE, index_path
from ganscale.data.shards.manifest import load_manifest
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from tests.data.forging import bomb, forge
from tests.data.reading.sets import CPU, damage, data


@pytest.fixture
def copy(digits: Path, tmp_path: Path) -> Path:
    """A set that a test may damage."""
    return shutil.copytree(digits, tmp_path / "copy")


def test_both_readers_give_the_same_batches_for_any_workers(digits: Path) -> None:
    images = ImageSet(data(digits, block_shards=2))
    indexed = images.reader()
    resident, line = open_reader(data(digits, reader="resident"), images, Ranks(), CPU)
    assert isinstance(resident, ResidentReader)
    assert "1,797 images" in line
    order = images.order(0)
    expected = [BatchDataset(resident, order, 50, range(10, 30))[k] for k in range(34, 40)]
    for workers in (0, 2):
        dataset = BatchDataset(indexed, order, 50, range(10, 30))
        got = list(islice(batches(dataset, 34, 40, data(digits, workers=workers)), 6))
        for ours, theirs in zip(got, expected, strict=True):
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.labels, theirs.labels)


def test_large_images_come_from_threads_in_the_same_order(
    digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganscale.data.reading.loader.THREADED_BYTES", 28 * 28)
    images = ImageSet(data(digits))
    dataset = BatchDataset(images.reader(), images.order(0), 64, range(64))
    expected = [dataset[k] for k in range(20, 60)]  # across an epoch's end
    main = threading.get_ident()
    seen: set[int] = set()
    read = dataset.reader.read
    monkeypatch.setattr(
        dataset.reader, "read", lambda i: (seen.add(threading.get_ident()), read(i))[1]
    )
    got = list(batches(dataset, 20, 60, data(digits, workers=3)))
    assert len(got) == 40
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.equal(ours.images, theirs.images)
    assert seen
    assert main not in seen


@pytest.mark.parametrize("side", [96, 128])  # below and above what is decoded in place
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_every_format_and_size_as_pillow_has_it(kind: str, side: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, side, side, 3), dtype=np.uint8)
    source = ArraySource("noise", pixels, np.arange(6))
    pack(source, tmp_path / "set", Packing(format=kind), 1, lambda *_: None)
    damage(tmp_path / "set", sample=2)
    config = data(tmp_path / "set", resolution=side, channels=3, on_error="skip")
    images, _ = ImageSet(config).reader().read(np.array([0, 5, 2, 1]))
    tar = tmp_path / "set" / "shard-000000.tar"
    table = np.load(index_path(tar))
    for image, sample in zip(images, [0, 5, 3, 1], strict=True):  # 3 in place of the damaged one
        offset, size = table[sample, [OFFSET, SIZE]].tolist()
        file = Image.open(io.BytesIO(tar.read_bytes()[offset : offset + size]))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.array(file))


def test_auto_says_why(digits: Path) -> None:
    images = ImageSet(data(digits))
    _, line = open_reader(data(digits), images, Ranks(), CPU)
    assert line.startswith("resident reader: 1,797 images")
    reader, line = open_reader(data(digits, reader="indexed"), images, Ranks(), CPU)
    assert isinstance(reader, IndexedReader)
    assert "chosen in the config" in line


def test_a_corrupt_sample_is_named_or_passed_over(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("ganscale").propagate = True
    damage(copy)
    with pytest.raises(GanscaleError, match=r"shard-000000\.tar, sample '\d+\.png'"):
        ImageSet(data(copy)).reader().read(np.array([0]))
    skipping = ImageSet(data(copy, on_error="skip")).reader()
    batch = skipping.read(np.array([0, 1]))
    assert torch.equal(batch.images[0], batch.images[1])
    assert skipping.skipped == 1
    assert "skipped (sample 1 that this process skips)" in caplog.text


def flip(folder: Path, sample: int, at: float) -> None:
    """Change one bit of a sample of the first shard."""
    tar = folder / "shard-000000.tar"
    offset, size = np.load(index_path(tar))[sample, [OFFSET, SIZE]].tolist()
    content = bytearray(tar.read_bytes())
    content[offset + int(at * size)] ^= 4
    tar.write_bytes(content)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_a_flipped_bit_that_a_decoder_may_not_notice(kind: str, tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 6 * 32 * 32 * 3).reshape(6, 32, 32, 3).astype(np.uint8)
    pack(ArraySource("x", smooth, np.arange(6)), tmp_path, Packing(format=kind), 1, lambda *_: None)
    config = data(tmp_path, resolution=32, channels=3)
    truth = ImageSet(config).reader().read(np.arange(6))
    flip(tmp_path, 2, 0.7)
    with pytest.raises(GanscaleError, match=r"sample '.*': cannot be used"):
        ImageSet(config).reader().read(np.array([2]))
    got = ImageSet(config).reader().read(np.array([3]))
    assert torch.equal(got.images[0], truth.images[3])
    with pytest.raises(GanscaleError, match=r"shard-000000\.tar: its SHA-256 differs"):
        ImageSet(data(tmp_path, resolution=32, channels=3, verify="open")).reader().read(
            np.array([3])
        )


def test_an_intact_set_is_read_with_either_verification(digits: Path) -> None:
    truth = ImageSet(data(digits)).reader().read(np.arange(0, 1797, 100))
    got = ImageSet(data(digits, verify="open")).reader().read(np.arange(0, 1797, 100))
    assert torch.equal(got.images, truth.images)


TRUNCATED = """
import sys
import numpy as np
from pathlib import Path
from ganscale.config import Data
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.loader import BatchDataset, batches
from ganscale.errors import GanscaleError

folder, workers, on_error = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
data = Data(path=str(folder), reader="indexed", workers=workers, on_error=on_error)
images = ImageSet(data)
reader = images.reader()
reader.read(np.arange(3))  # open
tar = folder / "shard-000000.tar"
with tar.open("r+b") as file:
    file.truncate(5000)
try:
    for _ in batches(BatchDataset(reader, images.order(0), 64, range(64)), 0, 28, data):
        pass
except GanscaleError as error:
    print(error)
"""


@pytest.mark.parametrize(("workers", "on_error"), [(2, "raise"), (0, "skip")])
def test_a_shard_that_is_cut_while_it_is_open(copy: Path, workers: int, on_error: str) -> None:
    """In a process of its own, which a mapped file would end by SIGBUS."""
    ended = subprocess.run(
        [sys.executable, "-c", TRUNCATED, str(copy), str(workers), on_error],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert "shard-000000.tar, sample" in ended.stdout
    assert "truncated: " in ended.stdout
    assert "Traceback" not in ended.stdout


def test_a_sample_without_a_class_in_a_conditional_game(copy: Path) -> None:
    index = index_path(copy / "shard-000000.tar")
    table = np.load(index)
    table[0, LABEL] = -1
    np.save(index, table)
    forge(copy)
    assert ImageSet(data(copy)).reader().read(np.array([0])).labels.tolist() == [-1]
    with pytest.raises(GanscaleError, match=r"sample '\d+\.png'.*class -1 is not in 0 … 9"):
        ImageSet(data(copy, classes=10)).reader().read(np.array([0]))
    skipping = ImageSet(data(copy, classes=10, on_error="skip")).reader()
    labels = skipping.read(np.array([0, 1])).labels
    assert labels[0] == labels[1] == int(table[1, LABEL])


def test_a_shard_or_index_that_is_not_the_manifests(copy: Path) -> None:
    tar = copy / "shard-000001.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[:-512])
    with pytest.raises(GanscaleError, match="manifest says"):
        ImageSet(data(copy)).reader().read(np.array([400]))
    tar.unlink()
    with pytest.raises(GanscaleError, match="cannot be read"):
        ImageSet(data(copy)).reader().read(np.array([400]))


@pytest.mark.parametrize("content", [None, "{", '{"format": 1}'])
def test_a_folder_that_is_no_set(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(GanscaleError, match=r"ganscale pack|manifest.json is invalid"):
        load_manifest(tmp_path)


def png(digits: Path) -> bytes:
    tar = digits / "shard-000000.tar"
    offset, size = np.load(index_path(tar))[0, [OFFSET, SIZE]].tolist()
    return tar.read_bytes()[offset : offset + size]


def test_decoding_refuses_before_it_decodes(digits: Path) -> None:
    image = png(digits)
    assert decode_bytes(image, (1, 28, 28), 784).shape == (1, 28, 28)
    assert decode_bytes(image, (3, 28, 28), 784).shape == (3, 28, 28)
    with pytest.raises(ValueError, match=r"Image size .* exceeds limit"):
        decode_bytes(bomb(), (1, 28, 28), 10**6)
    with pytest.raises(ValueError, match=r"28×28 pixels exceed data\.max_pixels"):
        decode_bytes(image, (1, 28, 28), 783)
    for content in (b"", b"GIF89a", image[:40], b"\x80\x04cos\nsystem\n"):
        with pytest.raises(ValueError, match=r"."):
            decode_bytes(content, (1, 28, 28), 10**6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_resident_reader_on_a_device_gives_the_same_batches(digits: Path) -> None:
    images = ImageSet(data(digits))
    host, _ = open_reader(data(digits, resident_on="host"), images, Ranks(), CPU)
    device, line = open_reader(
        data(digits, resident_on="device"), images, Ranks(), torch.device("cuda:0")
    )
    assert "memory of cuda:0" in line
    indices = np.arange(0, 1797, 7)
    assert torch.equal(device.read(indices).images.cpu(), host.read(indices).images)
