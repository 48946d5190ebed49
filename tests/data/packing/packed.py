"""What packing says and leaves."""

import hashlib
from pathlib import Path


def quiet(done: int, total: int) -> None:
    pass


def checksums(folder: Path) -> dict[str, str]:
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()
    }
