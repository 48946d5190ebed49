"""Opening files that may be a stranger's: regular ones only, and not larger than they may be."""

import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> int:
    """A descriptor to read a regular file by; `OSError` for a pipe or device, which may hang."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path}: not a regular file")
    return descriptor


def regular_file(path: Path) -> BinaryIO:
    """A regular file, open to be read; `OSError` for a pipe or device."""
    return os.fdopen(open_regular(path), "rb")


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a regular file; `OSError` where it is larger than `most` bytes."""
    with regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(f"{path}: larger than {most:,} bytes")
        return file.read(size)
