"""What a packed set says of itself: `manifest.json`, and one index file for each shard.

The index of `shard-000000.tar` is `shard-000000.index.npy`: int64, one row a sample, with the
columns of `OFFSET`, `SIZE` (of the image's bytes in the tar) and `LABEL` (-1 where it has none).
"""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator

from ganscale.errors import GanscaleError

MANIFEST = "manifest.json"
SHEET = "contact-sheet.png"
OFFSET, SIZE, LABEL = range(3)
TAR_BLOCK = 512
MOST_LABEL_BYTES = 1 << 20
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

    @field_validator("name", "index")
    @classmethod
    def _is_no_command(cls, name: str | None) -> str | None:
        """A manifest may be a stranger's: WebDataset would run what follows `pipe:`."""
        if name is not None and name.startswith("pipe:"):
            raise ValueError(f"a shard is named '{name}': pipe: runs commands")
        return name

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
    checksum: str = ""
    """SHA-256 of the rest: all other sums are here, so damage to this file must show too."""

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
        signed = self.model_copy(update={"checksum": self.own_checksum()})
        write_atomically(folder / MANIFEST, (signed.model_dump_json(indent=2) + "\n").encode())

    def own_checksum(self) -> str:
        """The SHA-256 of everything but `checksum`."""
        rest = self.model_dump_json(exclude={"checksum"})
        return hashlib.sha256(rest.encode()).hexdigest()


def parse_manifest(path: Path) -> Manifest:
    """The manifest in a file; `ValueError` where it is none, or not as it was written."""
    manifest = Manifest.model_validate(json.loads(path.read_bytes()))
    if manifest.checksum != manifest.own_checksum():
        raise ValueError("its own checksum does not hold")
    return manifest


def load_manifest(folder: str | Path) -> Manifest:
    """The manifest of a packed set in a folder; a clear error where there is none."""
    try:
        return parse_manifest(Path(folder) / MANIFEST)
    except FileNotFoundError:
        raise GanscaleError(
            f"{folder}: no packed set ({MANIFEST} is missing); make one with "
            f"`ganscale pack SOURCE {folder}`, or say where it is with data.path=DIR",
            every_rank=True,
        ) from None
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise GanscaleError(
            f"{folder}: {MANIFEST} is no manifest ({first}); pack or index the set again",
            every_rank=True,
        ) from None


def member_size(header: bytes) -> int:
    """The size that a tar header gives for its member; -1 where it is no such header."""
    try:
        return int(header[124:136].rstrip(b"\0 "), 8)
    except ValueError:
        return -1


def index_path(tar: Path) -> Path:
    """Where the index of a shard lies."""
    return tar.with_suffix(".index.npy")


def index_tar(tar: Path, json_label: str | None = None) -> NDArray[np.int64]:
    """Read a shard's headers: one row for each sample, in the order of the tar.

    A sample is the members that share a name up to the first dot, as in WebDataset; its image is
    the first member that is a picture. Its label is a `cls` member, or `json_label` of a `json`
    member. Raises `GanscaleError` naming the shard and the key.
    """
    rows: list[tuple[int, int, int]] = []
    current: str | None = None
    image: tuple[int, int] | None = None
    label = -1
    seen: set[str] = set()

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
                    current, image, label, seen = key, None, -1, set()
                if extension in seen:
                    raise GanscaleError(f"{tar}: sample '{key}' has two members .{extension}")
                seen.add(extension)
                if extension.lower() in IMAGE_MEMBERS and image is None:
                    image = (member.offset_data, member.size)
                elif extension.lower() in LABEL_MEMBERS or (json_label and extension == "json"):
                    content = archive.extractfile(member)
                    assert content is not None
                    text = content.read(MOST_LABEL_BYTES)
                    label = int(json.loads(text)[json_label] if extension == "json" else text)
            finish()
    except (tarfile.TarError, OSError, ValueError, KeyError, TypeError) as error:
        raise GanscaleError(f"{tar}: not a readable shard ({error})") from None
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def save_index(path: Path, table: NDArray[np.int64]) -> None:
    """Write the index of a shard, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, table)
    write_atomically(path, buffer.getvalue())


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
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # x: a link that someone has put there is not followed
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
