"""What is attacked: each kind makes sound files, changes them, and reads what has become of them.

A trial returns `same` (what was read is what was packed), `read` (it was read, and nothing says
what it should be), `error` (one message) or `silent` (something else was read without a word).
Any other exception is a fault, and so are a crash and a hang.
"""

import gzip
import io
import json
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import numpy as np
from PIL import Image

from ganscale.commands.inspect import write_sheet
from ganscale.config import Data
from ganscale.data.arrays import open_any, to_array
from ganscale.data.images import JPEG_SIGNATURE, convert, open_image
from ganscale.data.inspection import summary, verify
from ganscale.data.packing.foreign_shards import index_shards
from ganscale.data.packing.labels import read_labels
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import ArraySource, open_source
from ganscale.data.reading.decode import decode_bytes
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.png import encode
from ganscale.data.reading.streaming import stream
from ganscale.data.shards.manifest import Manifest, load_manifest
from ganscale.errors import GanscaleError
from tests.data.forging import forge
from tests.fuzz.mutations import deflated_anew, mutated, mutated_json, with_checksums
from tests.fuzz.run_folders import hostile_run

SIDE = 16
MAX_PIXELS = 10**6
Trial = Callable[[Random, Path], str]

_rng = np.random.default_rng(0)
SMOOTH = np.asarray(
    Image.fromarray(_rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC
    )
)
DEEP = _rng.integers(0, 65536, (SIDE, SIDE), dtype=np.uint16)


def _file(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _images() -> dict[str, list[bytes]]:
    colour = Image.fromarray(SMOOTH)
    grey, alpha = colour.convert("L"), colour.convert("RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    png = [_file(i, "PNG") for i in (colour, grey, alpha, colour.quantize(16), grey.convert("1"))]
    png += [_file(Image.fromarray(DEEP), "PNG"), _file(colour, "PNG", exif=exif)]
    png += [_file(colour, "PNG", save_all=True, append_images=[colour.rotate(90)])]
    png += [encode(SMOOTH), encode(SMOOTH[:, :, :1])]
    jpeg = [_file(i, "JPEG") for i in (colour, grey, colour.convert("CMYK"))]
    jpeg += [_file(colour, "JPEG", exif=exif), _file(colour, "JPEG", progressive=True)]
    webp = [_file(colour, "WEBP"), _file(colour, "WEBP", lossless=True), _file(alpha, "WEBP")]
    webp += [_file(colour, "WEBP", exif=exif, save_all=True, append_images=[colour.rotate(90)])]
    tiff = [_file(i, "TIFF") for i in (colour, Image.fromarray(DEEP), colour.convert("CMYK"))]
    tiff += [_file(colour, "TIFF", compression=c) for c in ("tiff_lzw", "jpeg", "tiff_deflate")]
    rest = [_file(colour, "GIF"), _file(colour, "BMP"), _file(grey.convert("1"), "BMP")]
    return {"PNG": png, "JPEG": jpeg, "WebP": webp, "TIFF, GIF, BMP": tiff + rest}


IMAGES = _images()


def decode_every_way(content: bytes) -> str:
    """As the readers and as `pack` do it; `silent` where two decoders give different pixels.

    JPEGs are left out of that: two decoders may round in their own ways.
    """
    outcome = "error"
    for channels in (1, 3):
        found: list[np.ndarray] = []
        for resize in (True, False):
            try:
                image = decode_bytes(content, (channels, SIDE, SIDE), MAX_PIXELS, resize)
            except ValueError:
                continue
            assert image.shape == (channels, SIDE, SIDE)
            assert image.dtype == np.uint8
            outcome = "read"
            if not resize:
                found.append(np.moveaxis(image, 0, 2))
        try:
            shown = convert(open_image(content, max_pixels=MAX_PIXELS), channels)
        except ValueError:
            continue
        pixels = np.asarray(shown).reshape(shown.height, shown.width, channels)
        is_jpeg = content.startswith(JPEG_SIGNATURE)
        if found and not is_jpeg and not np.array_equal(found[0], pixels):
            return f"silent: two decoders give different pixels in {channels} channels"
    return outcome


ARRAY = _rng.integers(0, 65536, (SIDE, SIDE, 5), dtype=np.uint16)


def _arrays() -> list[bytes]:
    buffer = io.BytesIO()
    np.save(buffer, ARRAY)
    pages = [Image.fromarray(page) for page in np.moveaxis(ARRAY, 2, 0)]
    tiff = _file(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    return [buffer.getvalue(), tiff, encode(ARRAY)]


ARRAYS = _arrays()


def hostile_array(random: Random, _: Path) -> str:
    """Images that are no pictures, as `pack` and as the readers open them."""
    content = mutated(random.choice(ARRAYS), random)
    if random.random() < 0.5:
        content = with_checksums(content)
    outcome = "error"
    try:
        image = decode_bytes(content, (5, SIDE, SIDE), MAX_PIXELS, bits=16)
        assert image.shape == (5, SIDE, SIDE)
        assert image.dtype == np.uint16
        outcome = "read"
    except ValueError:
        pass
    try:
        for bits in (8, 16):
            to_array(open_any(content, MAX_PIXELS), 5, bits)
        outcome = "read"
    except ValueError:
        pass
    return outcome


def _image_trial(kind: str) -> Trial:
    def trial(random: Random, _: Path) -> str:
        content = random.choice(IMAGES[kind])
        if kind == "PNG" and random.random() < 0.6:
            means_harm = random.random() < 0.5
            changed = deflated_anew(content, random) if means_harm else mutated(content, random)
            return decode_every_way(with_checksums(changed))
        return decode_every_way(mutated(content, random))

    return trial


# -- packed sets -----------------------------------------------------------------------------


class PackedSet:
    """A small set as the bytes of its files, and what its samples are."""

    def __init__(self, folder: Path, kind: str):
        numbers = np.arange(7)
        self.is_deep = kind == "deep"
        base = ARRAY if self.is_deep else SMOOTH
        images = np.stack([np.roll(base, 2 * i, axis=0) for i in numbers])
        source = ArraySource("fuzz", images, numbers % 3, ("a", "b", "c"))
        packing = Packing(format="png" if self.is_deep else kind, samples_per_shard=4)
        pack(source, folder, packing, 1, lambda *_: None)
        names = ("manifest.json", "shard-000000.tar", "shard-000000.index.npy", "shard-000001.tar")
        self.files = {
            name: (folder / name).read_bytes() for name in (*names, "shard-000001.index.npy")
        }
        self.values = {"channels": 5, "bits": 16} if self.is_deep else {}
        self.truth = read_set(folder, **self.values)

    def write(self, folder: Path, changes: dict[str, bytes]) -> Path:
        """The set with some files changed."""
        for name, content in {**self.files, **changes}.items():
            (folder / name).write_bytes(content)
        return folder


def read_set(folder: Path, **values: object) -> tuple[np.ndarray, np.ndarray]:
    """Every sample and label."""
    data = {"path": str(folder), "resolution": SIDE, "channels": 3, "workers": 0}
    images = ImageSet(Data.model_validate({**data, **values}))
    batch = images.reader().read(np.arange(images.samples))
    return batch.images.numpy(), batch.labels.numpy()


_sets: dict[str, PackedSet] = {}


def _packed(random: Random, scratch: Path) -> PackedSet:
    kind = random.choice(("png", "jpg", "webp", "deep"))
    if kind not in _sets:
        _sets[kind] = PackedSet(scratch.parent / f"set-{kind}", kind)
    return _sets[kind]


def damaged_set(random: Random, scratch: Path) -> str:
    """A set on a disk that loses bits: what is read is what was packed, or an error."""
    packed = _packed(random, scratch)
    name = random.choice(list(packed.files))
    packed.write(scratch, {name: mutated(packed.files[name], random)})
    values = {"verify": "open"} if random.random() < 0.3 else {}
    images, labels = read_set(scratch, **values, **packed.values)
    same = np.array_equal(images, packed.truth[0]) and np.array_equal(labels, packed.truth[1])
    return "same" if same else "silent"


def forged_set(random: Random, scratch: Path) -> str:
    """A set whose sums all fit what somebody made of it."""
    packed = _packed(random, scratch)
    name = random.choice(list(packed.files))
    content = packed.files[name]
    if name.endswith("json"):
        _write_forged_manifest(packed, scratch, mutated_json(content, random))
    else:
        packed.write(scratch, {name: mutated(content, random)})
        forge(scratch)
    return _everything_of(scratch, random, packed.values)


def _write_forged_manifest(packed: PackedSet, folder: Path, content: bytes) -> None:
    packed.write(folder, {"manifest.json": content})
    try:
        Manifest.model_validate(json.loads(content)).save(folder)
    except (ValueError, UnicodeError):
        return


def _everything_of(folder: Path, random: Random, values: dict[str, int]) -> str:
    """Inspect, verify, show and read a set, with everything that may go wrong going wrong."""
    manifest = load_manifest(folder)
    steps: tuple[Callable[[], object], ...] = (
        lambda: summary(str(folder), manifest),
        lambda: verify(str(folder), manifest, 1),
        lambda: write_sheet(str(folder), manifest, folder / "sheet.png"),
        lambda: read_set(folder, on_error=random.choice(("raise", "skip")), **values),
        lambda: len(open_source(str(folder))),
    )
    return _at_once(steps)


def _at_once(steps: Iterable[Callable[[], object]]) -> str:
    outcome = "read"
    for step in steps:
        try:
            step()
        except GanscaleError:
            outcome = "error"
    return outcome


# -- what is indexed, streamed and packed ----------------------------------------------------


def _tar_of(images: list[bytes], kind: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for i, content in enumerate(images):
            for name, member in ((f"{i}.{kind}", content), (f"{i}.cls", b"%d" % i)):
                info = tarfile.TarInfo(name)
                info.size = len(member)
                archive.addfile(info, io.BytesIO(member))
    return buffer.getvalue()


TAR = _tar_of(IMAGES["PNG"][:4], "png")


def hostile_tar(random: Random, scratch: Path) -> str:
    """Shards made elsewhere: indexed and read, and streamed."""
    path = scratch / "x.tar"
    path.write_bytes(mutated(TAR, random))

    def indexed() -> None:
        label = random.choice((None, "class"))
        index_shards([str(path)], scratch / "index", label)
        read_set(scratch / "index", on_error=random.choice(("raise", "skip")))

    def streamed() -> None:
        data = Data.model_validate(
            {"path": str(path), "resolution": SIDE, "channels": 3, "reader": "streaming"}
            | {"workers": 0, "on_error": random.choice(("raise", "skip"))}
        )
        list(islice(stream(data, (3, SIDE, SIDE), 2, 0, 0, 0), 3))

    return _at_once([indexed, streamed])


def _zip_of(images: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, content in enumerate(images):
            archive.writestr(f"{i % 2}/{i}.png", content)
    return buffer.getvalue()


ARCHIVES = {
    "x.zip": _zip_of(IMAGES["PNG"][:4]),
    "x.tar": TAR,
    "x.tar.gz": gzip.compress(TAR, mtime=0),
}


def hostile_archive(random: Random, scratch: Path) -> str:
    """A zip or tar to be packed, its labels in a file or not."""
    name = random.choice(list(ARCHIVES))
    (scratch / name).write_bytes(mutated(ARCHIVES[name], random))
    skip = Packing(size=SIDE, on_error=random.choice(("raise", "skip")))
    source = open_source(str(scratch / name))
    pack(source, scratch / "set", skip, 1, lambda *_: None)
    return "read"


LABELS = {
    "a.csv": b"file,class\n0.png,cat\n1.png,dog\n",
    "a.json": b'{"labels": [["0.png", "cat"], ["1.png", "dog"]]}',
}


def hostile_labels(random: Random, scratch: Path) -> str:
    """A file of labels."""
    name = random.choice(list(LABELS))
    (scratch / name).write_bytes(mutated(LABELS[name], random))
    read_labels(scratch / name)
    return "read"


def hostile_parquet(random: Random, scratch: Path) -> str:
    """A table of images."""
    global _parquet
    if not _parquet:
        import datasets

        column = [{"bytes": content, "path": None} for content in IMAGES["PNG"][:3]]
        table = datasets.Dataset.from_dict({"image": column, "label": [0, 1, 0]})
        table.to_parquet(str(scratch.parent / "sound.parquet"))
        _parquet = (scratch.parent / "sound.parquet").read_bytes()
        datasets.disable_progress_bars()
    (scratch / "a.parquet").write_bytes(mutated(_parquet, random))
    source = open_source(str(scratch / "a.parquet"), workspace=Path(mkdtemp(dir=scratch)))
    for i in range(len(source)):
        source.label(i)
        source.image(i)
    return "read"


_parquet = b""

TRIALS: dict[str, Trial] = {
    **{kind: _image_trial(kind) for kind in IMAGES},
    "array": hostile_array,
    "damaged set": damaged_set,
    "forged set": forged_set,
    "tar, indexed and streamed": hostile_tar,
    "archive, packed": hostile_archive,
    "label file": hostile_labels,
    "parquet": hostile_parquet,
    "run folder": hostile_run,
}

JUDGED = frozenset({"PNG", "damaged set"})
"""Where silence would be seen: two decoders to compare, or what was packed."""


def _raises(random: Random, scratch: Path) -> str:
    raise KeyError("what")


def _takes_memory(random: Random, scratch: Path) -> str:
    return str(len(bytes(1 << 40)))


GUARDS: dict[str, Trial] = {
    "crash": lambda random, scratch: os.abort(),
    "hang": lambda random, scratch: str(time.sleep(1000)),
    "exception": _raises,
    "memory": _takes_memory,
}
"""Faults of known kinds: whether a campaign would see them."""


def run_trial(kind: str, seed: int, folder: Path) -> str:
    """One trial in a folder of its own: its outcome, or `traceback` and the exception."""
    scratch = folder / "trial"
    scratch.mkdir()
    try:
        return {**TRIALS, **GUARDS}[kind](Random(f"{kind} {seed}"), scratch)
    except GanscaleError:
        return "error"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {error}"
    finally:
        shutil.rmtree(scratch)
