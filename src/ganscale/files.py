"""Files in a folder that someone else may have filled: no link is followed, no device is read.

A run folder may be a stranger's. A link in it could name any file of this machine, a FIFO would
block who opens it, and `/dev/zero` has no end.
"""

import errno
import hashlib
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from ganscale.errors import GanscaleError

MAX_BYTES = 1 << 28
MAX_LINE_BYTES = 1 << 24


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a regular file, in hexadecimal."""
    with open_regular_file(path) as file:
        return sha256_of_stream(file)


def sha256_of_stream(file: BinaryIO) -> str:
    """The SHA-256 of what is left to read of an open file, in hexadecimal."""
    digest = hashlib.sha256()
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


def open_regular_descriptor(path: Path) -> int:
    """A descriptor to read a regular file by; `OSError` for a pipe or device, which may hang."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path}: not a regular file")
    return descriptor


def open_regular_file(path: Path) -> BinaryIO:
    """A regular file, open to be read; `OSError` for a pipe or device."""
    return os.fdopen(open_regular_descriptor(path), "rb")


def read_regular_file(path: Path, most: int) -> bytes:
    """The bytes of a regular file; `OSError` where it is larger than `most` bytes."""
    with open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(f"{path}: larger than {most:,} bytes")
        return file.read(size)


def open_inside(folder: Path, *names: str) -> BinaryIO:
    """Open `folder/names…` for reading; below `folder`, nothing on the way may be a link.

    Raises `FileNotFoundError` where nothing is there and `GanscaleError` where it is not a regular
    file.
    """
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    path = folder.joinpath(*names)
    try:
        for name in names[:-1]:
            inner = _open_at(name, os.O_RDONLY | os.O_DIRECTORY, directory, path)
            os.close(directory)
            directory = inner
        return _regular(_open_at(names[-1], os.O_RDONLY, directory, path), path)
    finally:
        os.close(directory)


def read_inside(folder: Path, *names: str) -> bytes:
    """The content of `folder/names…`, opened as `open_inside` does; at most `MAX_BYTES`."""
    with open_inside(folder, *names) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise GanscaleError(f"{folder.joinpath(*names)}: larger than {MAX_BYTES >> 20} MiB")
    return content


def read_json_lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines, oldest first; none where there is no such file.

    A line that a crash has cut, and anything else that is not a JSON object, is left out.
    """
    objects = []
    with suppress(FileNotFoundError), open_inside(folder, name) as file:
        while line := file.readline(MAX_LINE_BYTES):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                objects.append(value)
    return objects


def append_line(path: Path, line: str) -> None:
    """Append to a file of lines, after a line of its own where the last one was cut off."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    with _regular(_open_at(str(path), flags, None, path), path, "a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode() + b"\n")


def write_output(path: Path, content: bytes) -> Path:
    """Write a file that a user has asked for, whole or not at all; makes its folder.

    Raises `GanscaleError` where `path` is a folder, a device or a FIFO.
    """
    refuse_special(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return path


def refuse_special(path: Path) -> None:
    """Raise `GanscaleError` where `path` is, or leads to, something else than a regular file."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):  # the latter is told by who writes
        return
    if not stat.S_ISREG(mode):
        raise GanscaleError(f"{path} is {_kind(mode)}, not a regular file; name another output")


def refuse_links(folder: Path) -> None:
    """Raise `GanscaleError` where an entry of a run folder is a link, a device or a FIFO."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                mode = entry.stat(follow_symlinks=False).st_mode
                raise GanscaleError(
                    f"{entry.path} is {_kind(mode)}: what is read or written there could lie "
                    "outside the run folder. Remove it; to keep runs on another disk, set "
                    "runs=FOLDER."
                )


def _open_at(name: str, flags: int, directory: int | None, path: Path) -> int:
    try:
        # A FIFO without a writer would block: it is opened, seen to be one, and closed.
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(name, flags, 0o666, dir_fd=directory)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
            raise GanscaleError(
                f"{path}: a link leads there, and links in a run folder are not followed; put the "
                "file itself in its place"
            ) from None
        raise


def _regular(descriptor: int, path: Path, mode: str = "rb") -> BinaryIO:
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        raise GanscaleError(f"{path} is {_kind(kind)}, not a regular file")
    return os.fdopen(descriptor, mode)  # type: ignore[return-value]


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")
