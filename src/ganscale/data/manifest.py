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


class Manifest(BaseModel):
    """A packed set: its shards in order, and what every image of it is like."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = 1
    source: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    shards: tuple[Shard, ...]

    @property
    def samples(self) -> int:
        """Images of the whole set."""
        return sum(shard.samples for shard in self.shards)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (self.channels, self.height, self.width)

    @property
    def fingerprint(self) -> str:
        """The same for the same bytes in the same order, wherever they lie."""
        sums = "\n".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(sums.encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write it into the set's folder, whole or not at all."""
        write_atomically(folder / MANIFEST, (self.model_dump_json(indent=2) + "\n").encode())


def load_manifest(folder: str | Path) -> Manifest:
    """The manifest of a packed set; a clear error where there is none."""
    path = Path(folder) / MANIFEST
    try:
        return Manifest.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise GanscaleError(
            f"{folder}: no packed set ({MANIFEST} is missing); make one with "
            f"`ganscale pack SOURCE {folder}`, or say where it is with data.path=DIR",
            every_rank=True,
        ) from None
    except (OSError, json.JSONDecodeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise GanscaleError(f"{path}: not a manifest ({first}); pack the set again") from None


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
