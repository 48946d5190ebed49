"""W&B's file of what a run has logged: records of its protocol, framed as in LevelDB's log.

W&B's own program stops at the first damaged record. This reader goes on behind it, because a run
that was killed, or whose disk flipped a bit, has lost that record and no other.

The framing is described at https://github.com/google/leveldb/blob/main/doc/log_format.md. W&B
writes seven bytes before it, and uses the CRC-32 of IEEE 802.3 without a mask.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START = b":W&B\xe1\xbe\x00"
BLOCK = 1 << 15
_CHUNK = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
DAMAGED, CUT = -1, -2  # what is found in place of a chunk


@dataclass(frozen=True)
class Log:
    """What a file of W&B holds.

    Attributes:
        records: W&B's `Record` messages, in the order in which they were logged
        damaged: the number of places at which one or several records cannot be read
        is_cut: whether the file ends in the middle of a record, as after a kill
    """

    records: list[Any]
    damaged: int
    is_cut: bool


def read_log(content: bytes) -> Log:
    """Return all records of a file that can be read, whatever else is in it."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    record_type = find_record_type()
    records: list[Any] = []
    damaged, is_cut = 0, False
    begun: list[bytes] = []
    for kind, data in _chunks(content):
        if kind == CUT:
            is_cut = True
            continue
        if kind == DAMAGED:
            damaged += 1
            begun = []
            continue
        if kind in (FULL, FIRST):
            damaged += bool(begun)
            begun = []
        elif not begun:  # the rest of a record whose beginning is damaged, which is counted
            continue
        begun.append(data)
        if kind in (FULL, LAST):
            try:
                records.append(record_type.FromString(b"".join(begun)))
            except DecodeError:
                damaged += 1
            begun = []
    return Log(records, damaged, is_cut or bool(begun))


def find_record_type() -> Any:
    """Return W&B's message `Record`, whose attributes a type checker does not know."""
    from wandb.proto import wandb_internal_pb2

    return vars(wandb_internal_pb2)["Record"]


def write_log(path: Path, records: Iterable[Any]) -> None:
    """Write a file that W&B's own program reads."""
    position = len(START)
    with path.open("wb") as file:
        file.write(START)
        for record in records:
            data = record.SerializeToString()
            kind = FIRST
            while True:
                left = BLOCK - position % BLOCK
                if left < _CHUNK.size:
                    file.write(bytes(left))
                    position += left
                    left = BLOCK
                room = left - _CHUNK.size
                part, data = data[:room], data[room:]
                if not data:
                    kind = FULL if kind == FIRST else LAST
                file.write(_CHUNK.pack(_checksum(kind, part), len(part), kind) + part)
                position += _CHUNK.size + len(part)
                if not data:
                    break
                kind = MIDDLE


def _chunks(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and the data of each chunk, or that a place is damaged or the file cut."""
    position, end = len(START), len(content)
    while position < end:
        left = BLOCK - position % BLOCK
        if left < _CHUNK.size:
            position += left
            continue
        found = _chunk_at(content, position)
        if found is not None:
            yield found
            position += _CHUNK.size + len(found[1])
            continue
        if _is_cut_at(content, position):
            yield CUT, b""
            return
        yield DAMAGED, b""
        position = _behind_damage(content, position)


def _chunk_at(content: bytes, position: int) -> tuple[int, bytes] | None:
    """Return the kind and the data of an intact chunk; None if there is none at this place."""
    start = position + _CHUNK.size
    if start > len(content):
        return None
    checksum, length, kind = _CHUNK.unpack_from(content, position)
    data = content[start : start + length]
    fits = start + length <= min(len(content), position - position % BLOCK + BLOCK)
    if not fits or kind not in (FULL, FIRST, MIDDLE, LAST) or _checksum(kind, data) != checksum:
        return None
    return int(kind), data


def _behind_damage(content: bytes, position: int) -> int:
    """Return where to read on: at the next chunk if the damaged one's length leads there."""
    _, length, _ = _CHUNK.unpack_from(content, position)
    behind: int = position + _CHUNK.size + length
    if _chunk_at(content, behind) is not None:
        return behind
    return position - position % BLOCK + BLOCK


def _is_cut_at(content: bytes, position: int) -> bool:
    """Return whether a chunk begins here whose end was never written.

    What a system that went down has not written may also read as zeros.
    """
    if position + _CHUNK.size > len(content) or not content[position:].strip(b"\0"):
        return True
    _, length, kind = _CHUNK.unpack_from(content, position)
    in_block = position % BLOCK + _CHUNK.size + length <= BLOCK
    beyond = position + _CHUNK.size + length > len(content)
    return kind in (FULL, FIRST, MIDDLE, LAST) and in_block and beyond


def _checksum(kind: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(bytes((kind,))))
