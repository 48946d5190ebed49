"""What an attacker does who can write into a set."""

import io
import struct
import tarfile
import zlib
from pathlib import Path

from PIL import Image

from ganscale.data.shards.manifest import load_manifest
from ganscale.files import sha256_of_file


def forge(folder: Path) -> None:
    """Whoever changes files of a set makes its manifest fit them."""
    manifest = load_manifest(folder)
    shards = tuple(
        shard.model_copy(
            update={
                "bytes": (folder / shard.name).stat().st_size,
                "sha256": sha256_of_file(folder / shard.name),
                "index_sha256": sha256_of_file(folder / shard.index_name),
            }
        )
        for shard in manifest.shards
    )
    manifest.model_copy(update={"shards": shards}).save(folder)


def png(size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (size, size), 7).save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of some hundred bytes that claims 50,000 × 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 10_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def tar(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    pairs = members.items() if isinstance(members, dict) else members
    with tarfile.open(path, "w") as archive:
        for name, content in pairs:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
