"""A shard that is open for reading its samples by offset."""

import os
import weakref
import zlib
from pathlib import Path

from ganscale.data.shards.index import NO_CHECKSUM, Table, member_size
from ganscale.data.shards.manifest import TAR_BLOCK
from ganscale.files import open_regular_descriptor, read_at, read_up_to


class OpenShard:
    """An open tar with the index of its samples; the first sample has number `first`.

    It is read, not memory-mapped: truncating a mapped file would kill the process with SIGBUS.
    """

    def __init__(self, path: Path, table: Table, first: int):
        self._descriptor = open_regular_descriptor(path)
        weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size
        self.rows: list[list[int]] = table.tolist()  # a list returns a row faster than an array
        self.first = first

    def content(self, offset: int, size: int, checksum: int) -> bytes:
        """Return the bytes of a sample's image; raise `ValueError` if they do not fit the index."""
        content = read_at(self._descriptor, offset, size)
        if zlib.crc32(content) == checksum:
            return content
        header = read_up_to(self._descriptor, offset - TAR_BLOCK, TAR_BLOCK)
        if offset % TAR_BLOCK or member_size(header) != size:
            raise ValueError("the index does not point at a member of the tar")
        if checksum != NO_CHECKSUM:
            raise ValueError("its checksum differs from the index's")
        return content

    def key(self, offset: int) -> str:
        """Return the name of the member whose data begin at `offset`, for messages."""
        try:
            header = read_up_to(self._descriptor, max(offset - TAR_BLOCK, 0), TAR_BLOCK)
        except OSError:
            return f"at byte {offset}"
        return header[:100].partition(b"\0")[0].decode(errors="replace")
