"""Safe and atomic file access, for folders that someone else may have filled.

A run folder may come from a stranger. A symbolic link in it could point at any file of this
machine, opening a FIFO would block, and `/dev/zero` never ends. Therefore the functions that read
inside a run folder follow no link, and all of them read regular files only.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from ganscale.errors import GanscaleError

MAX_BYTES = 1 << 28
MAX_LINE_BYTES = 1 << 24
TAIL_BYTES = 1 << 16
# Windows has neither of the first three; without O_BINARY it would translate line ends.
_SAFELY = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY: int | None = getattr(os, "O_DIRECTORY", None)  # None: folders cannot be opened
_seeking = Lock()
_LINKED = (
    "{path} is or passes through a link, and links in a run folder are not followed; replace the "
    "link with the file itself"
)


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal."""
    with open_regular_file(path) as file:
        return sha256_of_stream(file)


def sha256_of_stream(file: BinaryIO) -> str:
    """Return the SHA-256 of the rest of an open file, in hexadecimal."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that even after a crash it holds either the old or the new content."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # x: do not follow a link that someone planted there
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def open_regular_descriptor(path: Path) -> int:
    """Open a regular file and return its descriptor.

    Raises `OSError` for a pipe or a device, which might block forever.
    """
    descriptor = os.open(path, os.O_RDONLY | _SAFELY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path}: not a regular file")
    return descriptor


def open_regular_file(path: Path) -> BinaryIO:
    """Open a regular file for reading; raise `OSError` for a pipe or a device."""
    return os.fdopen(open_regular_descriptor(path), "rb")


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file; raise `OSError` if it exceeds `max_bytes`."""
    with open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise OSError(f"{path}: larger than {max_bytes:,} bytes")
        return file.read(size)


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """Return `size` bytes of an open file from `offset` on, such as one member of a tar.

    Raises `ValueError` if the file ends before that.
    """
    content = read_up_to(descriptor, offset, size)
    if len(content) != size:
        raise ValueError(f"truncated: {len(content):,} of {size:,} bytes at byte {offset:,}")
    return content


def read_up_to(descriptor: int, offset: int, size: int) -> bytes:
    """Return up to `size` bytes of an open file from `offset` on; threads may share the file."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    with _seeking:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk; Windows syncs files only."""
    if _DIRECTORY is None and path.is_dir():
        return
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR  # Windows syncs what it may write
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_inside(folder: Path, *names: str) -> BinaryIO:
    """Open the file `folder/names…` for reading; no part of the path below `folder` may be a link.

    Raises `FileNotFoundError` if there is no such file, and `GanscaleError` if it is not a regular
    file.
    """
    path = folder.joinpath(*names)
    if _DIRECTORY is None:
        _refuse_links_on_the_way(folder, names)
        return _wrap_regular(_open_at(str(path), os.O_RDONLY, None, path), path)
    directory = os.open(folder, os.O_RDONLY | _DIRECTORY | _SAFELY)
    try:
        for name in names[:-1]:
            inner = _open_at(name, os.O_RDONLY | _DIRECTORY, directory, path)
            os.close(directory)
            directory = inner
        return _wrap_regular(_open_at(names[-1], os.O_RDONLY, directory, path), path)
    finally:
        os.close(directory)


def _refuse_links_on_the_way(folder: Path, names: Sequence[str]) -> None:
    """Raise `GanscaleError` if a part of the path is a link.

    This is for Windows, which opens no file relative to an open folder. It cannot notice a link
    that another process plants at this very moment.
    """
    way = folder
    for name in names:
        way = way / name
        # A junction is no symlink, but leads elsewhere just the same.
        if way.is_symlink() or way.resolve().parent != way.parent.resolve():
            raise GanscaleError(_LINKED.format(path=folder.joinpath(*names)))


def read_inside(folder: Path, *names: str) -> bytes:
    """Return the content of the file `folder/names…`, opened as in `open_inside`.

    Raises `GanscaleError` if it exceeds `MAX_BYTES`.
    """
    with open_inside(folder, *names) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise GanscaleError(f"{folder.joinpath(*names)}: larger than {MAX_BYTES >> 20} MiB")
    return content


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a JSON Lines file, oldest first; an empty list if there is no file.

    Lines that are not JSON objects, such as one that a crash cut off, are left out.
    """
    with suppress(FileNotFoundError), open_inside(path.parent, path.name) as file:
        return _objects_in(iter(lambda: file.readline(MAX_LINE_BYTES), b""))
    return []


def _objects_in(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    objects = []
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            objects.append(value)
    return objects


def read_last_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects in the last 64 KiB of a JSON Lines file, oldest first.

    Lines are left out as in `read_json_lines`, the one that begins before these bytes too.
    """
    try:
        with open_inside(path.parent, path.name) as file:
            start = max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES)
            file.seek(start)
            lines = file.read(TAIL_BYTES).split(b"\n")
    except FileNotFoundError:
        return []
    return _objects_in(lines[1:] if start else lines)


def append_line(path: Path, line: str) -> None:
    """Append a line to a text file; if its last line was cut off, start a new one first."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    with _wrap_regular(_open_at(str(path), flags, None, path), path, "a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode() + b"\n")


def write_output(path: Path, content: bytes) -> Path:
    """Write a file that the user asked for, atomically; create its folder if need be.

    Raises `GanscaleError` if `path` is a folder, a device or a FIFO.
    """
    refuse_special(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return path


def refuse_special(path: Path) -> None:
    """Raise `GanscaleError` if `path` is, or links to, anything but a regular file."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):  # the writer reports the latter
        return
    if not stat.S_ISREG(mode):
        raise GanscaleError(f"{path} is {_kind(mode)}, not a regular file; name another output")


def refuse_links(folder: Path) -> None:
    """Raise `GanscaleError` if an entry of a run folder is a link, a device or a FIFO."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                mode = entry.stat(follow_symlinks=False).st_mode
                raise GanscaleError(
                    f"{entry.path} is {_kind(mode)}, and could lead outside the run folder. "
                    "Remove it; to keep runs on another disk, set runs=FOLDER."
                )


def _open_at(name: str, flags: int, directory: int | None, path: Path) -> int:
    try:
        # Without O_NONBLOCK, opening a FIFO that has no writer would block.
        return os.open(name, flags | _NOFOLLOW | _SAFELY, 0o666, dir_fd=directory)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
            raise GanscaleError(_LINKED.format(path=path)) from None
        raise


def _wrap_regular(descriptor: int, path: Path, mode: str = "rb") -> BinaryIO:
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
