"""What a packed set says of itself: `manifest.json`, and one index file for each shard.

The index of `shard-000000.tar` is `shard-000000.index.npy`: int64, one row a sample, with the
columns of `OFFSET`, `SIZE` (of the image's bytes in the tar) and `LABEL` (-1 where it has none).
"""

import hashlib
import json
import os
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from ganscale.errors import GanscaleError

MANIFEST = "manifest.json"
OFFSET, SIZE, LABEL = range(3)
TAR_BLOCK = 512
IMAGE_MEMBERS = ("png", "jpg", "jpeg", "webp")
LABEL_MEMBERS = ("cls",)


class Shard(BaseModel):
    """One tar file of a set."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str
    index: str | None = None

    @property
    def index_name(self) -> str:
        """Name of the index file: beside the shard unless the manifest says otherwise."""
        return self.index or index_path(Path(self.name)).name


class Manifest(BaseModel):
    """A packed set: its shards in order, and what every image of it is like.

    `height` and `width` are empty where images differ in size: the reader resizes them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = 1
    source: str
    classes: tuple[str, ...]
    channels: int
    height: int | None
    width: int | None
    shards: tuple[Shard, ...]

    @property
    def samples(self) -> int:
        """Images of the whole set."""
        return sum(shard.samples for shard in self.shards)

    @property
    def varied(self) -> bool:
        """Whether images differ in size."""
        return self.height is None

    def fits(self, image_shape: tuple[int, int, int]) -> bool:
        """Whether the set can be read as images of (channels, height, width)."""
        return self.varied or (self.channels, self.height, self.width) == image_shape

    @property
    def fingerprint(self) -> str:
        """The same for the same bytes in the same order, wherever they lie."""
        sums = "\n".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(sums.encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write it into the set's folder, whole or not at all."""
        write_atomically(folder / MANIFEST, (self.model_dump_json(indent=2) + "\n").encode())


def read_manifest(path: Path, location: str) -> Manifest:
    """The manifest in a local file; a clear error naming the set's location where it is none."""
    try:
        return Manifest.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise GanscaleError(
            f"{location}: no packed set ({MANIFEST} is missing); make one with "
            f"`ganscale pack SOURCE {location}`, or say where it is with data.path=DIR",
            every_rank=True,
        ) from None
    except (OSError, ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise GanscaleError(
            f"{location}: {MANIFEST} is no manifest ({first}); pack or index the set again",
            every_rank=True,
        ) from None


def load_manifest(folder: str | Path) -> Manifest:
    """The manifest of a packed set in a folder."""
    return read_manifest(Path(folder) / MANIFEST, str(folder))


def member_size(header: bytes) -> int:
    """The size that a tar header gives for its member; -1 where it is no such header."""
    try:
        return int(header[124:136].rstrip(b"\0 "), 8)
    except ValueError:
        return -1


def index_path(tar: Path) -> Path:
    """Where the index of a shard lies."""
    return tar.with_suffix(".index.npy")


def index_tar(tar: Path) -> NDArray[np.int64]:
    """Read a shard's headers: one row for each sample, in the order of the tar.

    A sample is the members that share a name up to the first dot, as in WebDataset; its image is
    the first member that is a picture. Raises `GanscaleError` naming the shard and the key.
    """
    rows: list[tuple[int, int, int]] = []
    current: str | None = None
    image: tuple[int, int] | None = None
    label = -1

    def finish() -> None:
        if current is not None:
            if image is None:
                raise GanscaleError(f"{tar}: sample '{current}' has no image member")
            rows.append((*image, label))

    try:
        with tarfile.open(tar) as archive:
            for member in archive:
                if not member.isfile():
                    continue
                path = PurePosixPath(member.name)
                stem, _, extension = path.name.partition(".")
                key = str(path.parent / stem)
                if key != current:
                    finish()
                    current, image, label = key, None, -1
                if extension.lower() in IMAGE_MEMBERS and image is None:
                    image = (member.offset_data, member.size)
                elif extension.lower() in LABEL_MEMBERS:
                    content = archive.extractfile(member)
                    assert content is not None
                    label = int(content.read(32))
            finish()
    except (tarfile.TarError, OSError, ValueError) as error:
        raise GanscaleError(f"{tar}: not a readable shard ({error})") from None
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is either the old one or the new one, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
