"""The index of a shard: where each sample lies in the tar, its label and its checksum.

The index of `shard-000000.tar` is `shard-000000.index.npy`: int64, one row a sample, with the
columns `OFFSET` and `SIZE` (of the image's bytes in the tar), `LABEL` (-1 where it has none) and
`CHECKSUM` (CRC-32 of those bytes). Sets packed before there were checksums lack the last column.
"""

import hashlib
import io
import json
import os
import re
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganscale.data.shards.manifest import TAR_BLOCK, Shard
from ganscale.errors import GanscaleError
from ganscale.files import open_regular_file, read_regular_file, write_atomically

OFFSET, SIZE, LABEL, CHECKSUM = range(4)
COLUMNS = 4
NO_CHECKSUM = -1
SIZE_FIELD = slice(124, 136)  # of a tar header
MAX_CLASSES = 1_000_000
# As `numpy.save` writes it. numpy's own reader evaluates the header as a Python literal.
HEADER = re.compile(
    rb"\x93NUMPY\x01\0..\{'descr': '<i8', 'fortran_order': False, "
    rb"'shape': \((\d{1,12}), ([34])\), \} *\n",
    re.DOTALL,
)
MAX_LABEL_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 12  # of an index, before its rows
CHUNK = 1 << 20
IMAGE_MEMBERS = ("png", "jpg", "jpeg", "webp")
LABEL_MEMBERS = ("cls",)
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}

Table = NDArray[np.int64]


def index_path(tar: Path) -> Path:
    """Where the index of a shard lies."""
    return tar.with_suffix(".index.npy")


def save_index(path: Path, table: Table) -> None:
    """Write the index of a shard, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, table)
    write_atomically(path, buffer.getvalue())


def most_index_bytes(samples: int) -> int:
    """The size that the index of so many samples cannot exceed."""
    return MAX_HEADER_BYTES + samples * COLUMNS * np.dtype(np.int64).itemsize


def load_index(path: Path, shard: Shard, classes: int) -> Table:
    """The index of a shard, (samples, 4) int64, if it is what the manifest says.

    Raises `ValueError` where its SHA-256 is another, where it is no such table, where a row points
    outside the shard, or where a label is none of -1 (no label) and 0 … `classes` - 1.
    """
    try:
        content = read_regular_file(path, most_index_bytes(shard.samples))
    except OSError as error:
        raise ValueError(f"its index cannot be read ({error})") from None
    if hashlib.sha256(content).hexdigest() != shard.index_sha256:
        raise ValueError(f"the SHA-256 of its index {shard.index_name} is not the manifest's")
    table = parse_index(content)
    if len(table) != shard.samples:
        raise ValueError(
            f"its index has {len(table):,} samples, the manifest says {shard.samples:,}"
        )
    offset, size, label = table[:, OFFSET], table[:, SIZE], table[:, LABEL]
    last = shard.bytes - size
    if ((offset < TAR_BLOCK) | (size < 0) | (size > shard.bytes) | (offset > last)).any():
        raise ValueError("its index points outside it")
    if ((label < -1) | (label >= classes)).any():
        raise ValueError(f"its index has labels that are none of the {classes:,} classes")
    return table


def parse_index(content: bytes) -> Table:
    """The table in an index file; `ValueError` where it is none. Nothing in it is evaluated."""
    header = HEADER.match(content)
    if header is None:
        raise ValueError("its index is not one: int64 of shape (samples, 4) in numpy's format")
    samples, columns = int(header[1]), int(header[2])
    rows = content[header.end() :]
    if len(rows) != samples * columns * 8:
        raise ValueError(f"its index is cut off: {len(rows):,} bytes for {samples:,} samples")
    table = np.frombuffer(rows, dtype=np.int64).reshape(samples, columns)
    if columns == COLUMNS:
        return table
    return np.insert(table, CHECKSUM, NO_CHECKSUM, axis=1)


def member_size(header: bytes) -> int:
    """The size that a tar header gives for its member; -1 where it is no such header."""
    try:
        return int(header[SIZE_FIELD].rstrip(b"\0 "), 8)
    except ValueError:
        return -1


def index_tar(tar: Path, json_label: str | None = None) -> Table:
    """Read a shard: one row for each sample, in the order of the tar.

    A sample is the members that share a name up to the first dot, as in WebDataset; its image is
    the first member that is a picture. Its label is a `cls` member, or `json_label` of a `json`
    member. Raises `GanscaleError` naming the shard and the key.
    """
    try:
        with open_regular_file(tar) as file:
            rows = _Samples(file.fileno(), json_label)
            refuse_compressed(file.fileno())
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    rows.add(member)
                rows.finish()
                _check_end(file.fileno(), archive.offset)
    except Exception as error:  # a damaged tar meets every exception of Python inside tarfile
        reason = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise GanscaleError(f"{tar}: not a readable shard ({reason})") from None
    return np.array(rows.table, dtype=np.int64).reshape(-1, COLUMNS)


class _Samples:
    """Gathers the members of a tar into samples."""

    def __init__(self, descriptor: int, json_label: str | None):
        self.table: list[tuple[int, int, int, int]] = []
        self._descriptor = descriptor
        self._json_label = json_label
        self._key: str | None = None
        self._image: tuple[int, int] | None = None
        self._label = -1
        self._seen: set[str] = set()

    def add(self, member: tarfile.TarInfo) -> None:
        """The next member."""
        if member.isdir():
            return
        path = PurePosixPath(member.name)
        stem, _, extension = path.name.partition(".")
        kind, key = extension.lower(), str(path.parent / stem)
        if key != self._key:
            self.finish()
            self._key, self._image, self._label, self._seen = key, None, -1, set()
        if extension in self._seen:
            raise ValueError(f"sample '{key}' has two members .{extension}")
        self._seen.add(extension)
        is_label = kind in LABEL_MEMBERS or (self._json_label is not None and kind == "json")
        if not (is_label or kind in IMAGE_MEMBERS):
            return
        if not member.isreg() or member.issparse():
            raise ValueError(f"'{member.name}' is a link or sparse: it has no bytes of its own")
        if is_label:
            self._label = self._read_label(member, kind)
        elif self._image is None:
            self._image = (member.offset_data, member.size)

    def finish(self) -> None:
        """The sample is whole."""
        if self._key is None:
            return
        if self._image is None:
            raise ValueError(f"sample '{self._key}' has no image member")
        checksum = _checksum(self._descriptor, *self._image)
        self.table.append((*self._image, self._label, checksum))

    def _read_label(self, member: tarfile.TarInfo, kind: str) -> int:
        content = _read(self._descriptor, member.offset_data, min(member.size, MAX_LABEL_BYTES))
        try:
            if kind in LABEL_MEMBERS:
                return parse_label(content.decode().strip())
            value = json.loads(content)
            if not isinstance(value, dict) or self._json_label not in value:
                raise ValueError(f"no key '{self._json_label}' in its JSON")
            return parse_label(value[self._json_label])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"sample '{self._key}': {error}") from None


def parse_label(value: Any) -> int:
    """A class number, as text or as JSON has it; -1 for none.

    Raises `ValueError` where it is no whole number from -1 to 999,999.
    """
    number: int | float | None = None
    if isinstance(value, str):
        number = int(value) if re.fullmatch(r"-1|[0-9]{1,9}", value) else None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    if number is None or not -1 <= number < MAX_CLASSES or number != int(number):
        raise ValueError(f"class '{str(value)[:40]}' is not a number from 0 to {MAX_CLASSES - 1:,}")
    return int(number)


def _read(descriptor: int, offset: int, size: int) -> bytes:
    content = os.pread(descriptor, size, offset)
    if len(content) != size:
        raise ValueError("it is cut off")
    return content


def _checksum(descriptor: int, offset: int, size: int) -> int:
    checksum = 0
    for start in range(0, size, CHUNK):
        part = _read(descriptor, offset + start, min(CHUNK, size - start))
        checksum = zlib.crc32(part, checksum)
    return checksum


def refuse_compressed(descriptor: int) -> None:
    """`ValueError` for a compressed tar: it has no offsets, and kilobytes become gigabytes."""
    start = os.pread(descriptor, 8, 0)
    for magic, name in COMPRESSED.items():
        if start.startswith(magic):
            raise ValueError(f"compressed by {name}: decompress it")


def _check_end(descriptor: int, offset: int) -> None:
    """`tarfile` takes a damaged header for the end of the archive, without a word."""
    block = os.pread(descriptor, TAR_BLOCK, offset)
    if block != bytes(TAR_BLOCK):
        raise ValueError(f"damaged or cut off at byte {offset:,}")
