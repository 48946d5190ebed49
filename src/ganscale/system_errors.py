"""What the operating system refuses (a full disk, a read-only folder), in one message.

Libraries wrap such an error in types of their own; here it is found again.
"""

import errno
import os
import re

# Of a disk: an error of these, met while another was handled, is the cause of that other.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
ADVICE = {
    errno.ENOSPC: "make room, or name another folder, and start again",
    errno.EDQUOT: "make room, or name another folder, and start again",
    errno.EROFS: "name a folder that can be written",
    errno.EACCES: "name another one, or change who may use it",
    errno.EPERM: "name another one, or change who may use it",
    errno.EMFILE: "raise the limit (ulimit -n) and start again",
    errno.ENAMETOOLONG: "name a shorter one",
    errno.ESTALE: "the file server has lost it; start again",
    errno.EIO: "the disk fails; look into the system's log",
}
_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors, tokenizers
_TORCH = ("iostream error", "PytorchStreamWriter failed", "inline_container.cc")


def find_system_error(error: BaseException) -> OSError | None:
    """The operating system's error that `error` is, that it wraps, or that has led to it."""
    if isinstance(error, OSError):
        return error
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, OSError) and link.errno in DISK:
            return link
        if number := _RUST.search(str(link)):
            return OSError(int(number[1]), os.strerror(int(number[1])))
        if isinstance(link, RuntimeError) and any(text in str(link) for text in _TORCH):
            return OSError(f"torch could not write or read a file ({str(link).splitlines()[0]})")
        link = link.__cause__ or link.__context__
    return None


def describe_error(error: OSError) -> str:
    """One sentence: where, what, and what to do."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    what = error.strerror or str(error) or type(error).__name__
    advice = ADVICE.get(error.errno or 0)
    where = f"{' → '.join(names)}: " if names else ""
    return f"{where}{what}" + (f"; {advice}" if advice else "")
