"""Errors of the operating system, such as a full disk or a read-only folder, as one message.

Libraries wrap such an error in their own exception types; this module finds it again.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ganscale.errors import GanscaleError

# An exception that was raised while one of these was being handled was caused by it.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
ADVICE = {
    errno.ENOSPC: "free some space or choose another folder, then start again",
    errno.EDQUOT: "free some space or choose another folder, then start again",
    errno.EROFS: "choose a writable folder",
    errno.EACCES: "choose another path, or change its permissions",
    errno.EPERM: "choose another path, or change its permissions",
    errno.EMFILE: "raise the limit (ulimit -n), then start again",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ESTALE: "the file server no longer knows this file; start again",
    errno.ENOMEM: "lower train.batch_size, or raise train.accumulation; `ganscale plan` says what "
    "an experiment needs",
    errno.EIO: "the disk is failing; check the system log",
}
_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors, tokenizers
_MEMORY = re.compile(r"DefaultCPUAllocator: .*memory.*|CUDA out of memory[^.]*\.[^.]*\.\d+ \w+")
_TORCH = ("iostream error", "PytorchStreamWriter failed", "inline_container.cc")


def find_system_error(error: BaseException) -> OSError | None:
    """Return the operating system's error that `error` is, wraps or was caused by, if any."""
    if isinstance(error, OSError):
        return error
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, OSError) and link.errno in DISK_ERRORS:
            return link
        if number := _RUST.search(str(link)):
            return OSError(int(number[1]), os.strerror(int(number[1])))
        if isinstance(link, RuntimeError) and (found := _MEMORY.search(str(link))):
            return OSError(errno.ENOMEM, found[0].rstrip("."))
        if isinstance(link, RuntimeError) and any(text in str(link) for text in _TORCH):
            return OSError(f"torch could not write or read a file ({str(link).splitlines()[0]})")
        link = link.__cause__ or link.__context__
    return None


def describe_error(error: OSError) -> str:
    """Return one sentence that says where it happened, what happened and what to do."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    what = error.strerror or str(error) or type(error).__name__
    advice = ADVICE.get(error.errno or 0)
    where = f"{' → '.join(names)}: " if names else ""
    return f"{where}{what}" + (f"; {advice}" if advice else "")


@contextmanager
def explained() -> Iterator[None]:
    """Raise `GanscaleError` with one sentence instead of an error of the operating system."""
    try:
        yield
    except GanscaleError:
        raise
    except Exception as error:
        cause = find_system_error(error)
        if cause is None:
            raise
        raise GanscaleError(describe_error(cause)) from error
