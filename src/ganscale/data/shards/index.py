"""The index of a shard: where each sample lies in the tar, its label and its checksum.

The index of `shard-000000.tar` is `shard-000000.index.npy`: int64, one row per sample, with the
columns `OFFSET` and `SIZE` (of the image's bytes in the tar), `LABEL` (-1 for none) and `CHECKSUM`
(CRC-32 of those bytes). Datasets packed by early versions lack the last column.
"""

import hashlib
import io
import json
import re
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganscale.data.shards.manifest import TAR_BLOCK, Shard
from ganscale.errors import GanscaleError
from ganscale.files import (
    open_regular_file,
    read_at,
    read_regular_file,
    read_up_to,
    write_atomically,
)

OFFSET, SIZE, LABEL, CHECKSUM = range(4)
COLUMNS = 4
NO_CHECKSUM = -1
SIZE_FIELD = slice(124, 136)  # in a tar header
MAX_CLASSES = 1_000_000
# What `numpy.save` writes. numpy's own reader would evaluate the header as a Python literal.
HEADER = re.compile(
    rb"\x93NUMPY\x01\0..\{'descr': '<i8', 'fortran_order': False, "
    rb"'shape': \((\d{1,12}), ([34])\), \} *\n",
    re.DOTALL,
)
MAX_LABEL_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 12  # of an index file, before its rows
CHUNK = 1 << 20
IMAGE_MEMBERS = ("png", "jpg", "jpeg", "webp")
LABEL_MEMBERS = ("cls",)
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}

Table = NDArray[np.int64]


def index_path(tar: Path) -> Path:
    """Return the path of a shard's index."""
    return tar.with_suffix(".index.npy")


def save_index(path: Path, table: Table) -> None:
    """Write the index of a shard atomically."""
    buffer = io.BytesIO()
    np.save(buffer, table)
    write_atomically(path, buffer.getvalue())


def max_index_bytes(samples: int) -> int:
    """Return the size in bytes that the index of so many samples cannot exceed."""
    return MAX_HEADER_BYTES + samples * COLUMNS * np.dtype(np.int64).itemsize


def load_index(path: Path, shard: Shard, classes: int) -> Table:
    """Read the index of a shard, (samples, 4) int64, and check it against the manifest.

    Raises `ValueError` if its SHA-256 differs, if it is not such a table, if a row points outside
    the shard, or if a label is neither -1 (no label) nor one of 0 … `classes` - 1.
    """
    try:
        content = read_regular_file(path, max_index_bytes(shard.samples))
    except OSError as error:
        raise ValueError(f"its index cannot be read ({error})") from None
    if hashlib.sha256(content).hexdigest() != shard.index_sha256:
        raise ValueError(f"the SHA-256 of its index {shard.index_name} differs from the manifest's")
    table = parse_index(content)
    if len(table) != shard.samples:
        raise ValueError(
            f"its index has {len(table):,} samples, but the manifest says {shard.samples:,}"
        )
    offset, size, label = table[:, OFFSET], table[:, SIZE], table[:, LABEL]
    last = shard.bytes - size
    if ((offset < TAR_BLOCK) | (size < 0) | (size > shard.bytes) | (offset > last)).any():
        raise ValueError("its index points outside the shard")
    if ((label < -1) | (label >= classes)).any():
        raise ValueError(f"its index has labels outside the {classes:,} classes")
    return table


def parse_index(content: bytes) -> Table:
    """Return the table in an index file; raise `ValueError` if it is invalid.

    Nothing in the file is evaluated.
    """
    header = HEADER.match(content)
    if header is None:
        raise ValueError("its index is not a numpy file with int64 of shape (samples, 4)")
    samples, columns = int(header[1]), int(header[2])
    rows = content[header.end() :]
    if len(rows) != samples * columns * 8:
        raise ValueError(f"its index is truncated: {len(rows):,} bytes for {samples:,} samples")
    table = np.frombuffer(rows, dtype=np.int64).reshape(samples, columns)
    if columns == COLUMNS:
        return table
    return np.insert(table, CHECKSUM, NO_CHECKSUM, axis=1)


def member_size(header: bytes) -> int:
    """Return the size that a tar header gives for its member, or -1 if it is not a tar header."""
    try:
        return int(header[SIZE_FIELD].rstrip(b"\0 "), 8)
    except ValueError:
        return -1


def index_tar(tar: Path, json_label: str | None = None) -> Table:
    """Read a shard and return its index: one row per sample, in the order of the tar.

    As in WebDataset, a sample consists of neighbouring members whose names agree up to the first
    dot. Its image is the first member with an image suffix; its label comes from a `cls` member,
    or from the key `json_label` of a `json` member. Raises `GanscaleError` naming the shard and
    the sample.
    """
    try:
        with open_regular_file(tar) as file:
            samples = _SampleCollector(file.fileno(), json_label)
            refuse_compressed(file.fileno())
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    samples.add(member)
                samples.finish()
                _check_end(file.fileno(), archive.offset)
    except Exception as error:  # a damaged tar can raise any exception inside tarfile
        reason = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise GanscaleError(f"{tar}: not a readable shard ({reason})") from None
    return np.array(samples.rows, dtype=np.int64).reshape(-1, COLUMNS)


class _SampleCollector:
    """Groups the members of a tar into samples and makes an index row of each."""

    def __init__(self, descriptor: int, json_label: str | None):
        self.rows: list[tuple[int, int, int, int]] = []
        self._descriptor = descriptor
        self._json_label = json_label
        self._key: str | None = None
        self._image: tuple[int, int] | None = None
        self._label = -1
        self._seen: set[str] = set()

    def add(self, member: tarfile.TarInfo) -> None:
        """Take the next member of the tar."""
        if member.isdir():
            return
        path = PurePosixPath(member.name)
        stem, _, extension = path.name.partition(".")
        kind, key = extension.lower(), str(path.parent / stem)
        if key != self._key:
            self.finish()
            self._key, self._image, self._label, self._seen = key, None, -1, set()
        if extension in self._seen:
            raise ValueError(f"sample '{key}' has two .{extension} members")
        self._seen.add(extension)
        is_label = kind in LABEL_MEMBERS or (self._json_label is not None and kind == "json")
        if not (is_label or kind in IMAGE_MEMBERS):
            return
        if not member.isreg() or member.issparse():
            raise ValueError(f"'{member.name}' is a link or sparse file without its own bytes")
        if is_label:
            self._label = self._read_label(member, kind)
        elif self._image is None:
            self._image = (member.offset_data, member.size)

    def finish(self) -> None:
        """Add the row of the current sample, which has no more members."""
        if self._key is None:
            return
        if self._image is None:
            raise ValueError(f"sample '{self._key}' has no image member")
        checksum = _checksum(self._descriptor, *self._image)
        self.rows.append((*self._image, self._label, checksum))

    def _read_label(self, member: tarfile.TarInfo, kind: str) -> int:
        content = read_at(self._descriptor, member.offset_data, min(member.size, MAX_LABEL_BYTES))
        try:
            if kind in LABEL_MEMBERS:
                return parse_label(content.decode().strip())
            value = json.loads(content)
            if not isinstance(value, dict) or self._json_label not in value:
                raise ValueError(f"its JSON has no key '{self._json_label}'")
            return parse_label(value[self._json_label])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"sample '{self._key}': {error}") from None


def parse_label(value: Any) -> int:
    """Return a class number given as text or as a JSON value; -1 means no class.

    Raises `ValueError` unless it is a whole number from -1 to 999,999.
    """
    number: int | float | None = None
    if isinstance(value, str):
        number = int(value) if re.fullmatch(r"-1|[0-9]{1,9}", value) else None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    if number is None or not -1 <= number < MAX_CLASSES or number != int(number):
        raise ValueError(
            f"class '{str(value)[:40]}' is not a whole number from 0 to {MAX_CLASSES - 1:,}"
        )
    return int(number)


def _checksum(descriptor: int, offset: int, size: int) -> int:
    checksum = 0
    for start in range(0, size, CHUNK):
        part = read_at(descriptor, offset + start, min(CHUNK, size - start))
        checksum = zlib.crc32(part, checksum)
    return checksum


def refuse_compressed(descriptor: int) -> None:
    """Raise `ValueError` for a compressed tar.

    It has no offsets to index, and a few kilobytes may decompress to gigabytes.
    """
    start = read_up_to(descriptor, 0, 8)
    for magic, name in COMPRESSED.items():
        if start.startswith(magic):
            raise ValueError(f"compressed with {name}; decompress it first")


def _check_end(descriptor: int, offset: int) -> None:
    """Raise `ValueError` unless an empty block is at `offset`, where `tarfile` found the end.

    Without this check a damaged header would look like the end of the archive.
    """
    block = read_up_to(descriptor, offset, TAR_BLOCK)
    if block != bytes(TAR_BLOCK):
        raise ValueError(f"damaged or truncated at byte {offset:,}")
