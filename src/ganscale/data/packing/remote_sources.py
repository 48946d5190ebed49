"""Archives of images behind an address: what identifies them, and their download."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ganscale.data.shards.download import STALL_S, open_http
from ganscale.data.shards.extras import open_filesystem
from ganscale.data.shards.shard_cache import ShardCache
from ganscale.errors import GanscaleError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".parquet")
HEADERS = ("ETag", "Last-Modified", "Content-Length")
FACTS = ("ETag", "etag", "md5Hash", "generation", "LastModified", "mtime", "updated", "size")
"""What fsspec's file systems call the same."""


class UnreachableError(GanscaleError):
    """A server does not answer now; the same request may succeed later."""


def is_archive(address: str) -> bool:
    """Return whether an address names an archive of images, rather than a packed dataset."""
    return urlsplit(address).path.lower().endswith(ARCHIVE_SUFFIXES)


def remote_state(address: str) -> str:
    """Return what the server says of a file that changes with its content.

    Raises `UnreachableError` if the server does not answer, and `GanscaleError` if it refuses.
    """
    try:
        facts = _headers(address) if _is_http(address) else _facts(address)
    except GanscaleError:
        raise
    except (FileNotFoundError, urllib.error.HTTPError) as error:
        raise GanscaleError(f"{address}: the server does not give it ({error})") from None
    except Exception as error:  # file systems behind fsspec raise errors of their own
        raise UnreachableError(
            f"{address}: cannot be reached ({type(error).__name__}: {str(error)[:200]})"
        ) from None
    return "\n".join(f"{key}: {value}" for key, value in facts.items() if value is not None)


def download_archive(address: str, folder: Path, limit_bytes: int) -> Path:
    """Download an archive into a folder, unless it is there already; return the local file.

    The file keeps its suffix, by which its kind is told. Raises `GanscaleError` if the download
    fails, or if the file has more than `limit_bytes`.
    """
    if not is_archive(address):
        raise GanscaleError(
            f"{address}: not the address of an archive of images ({', '.join(ARCHIVE_SUFFIXES)})"
        )
    fetched = ShardCache(folder, limit_bytes).fetch(address)
    suffix = next(s for s in ARCHIVE_SUFFIXES if urlsplit(address).path.lower().endswith(s))
    named = fetched.with_name(f"archive{suffix}")
    named.unlink(missing_ok=True)
    named.hardlink_to(fetched)
    return named


def _is_http(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _headers(address: str) -> dict[str, str | None]:
    """Ask for a file's headers only; some servers answer nothing but requests for the file."""
    try:
        with open_http(urllib.request.Request(address, method="HEAD"), STALL_S) as response:
            return {key: response.headers.get(key) for key in HEADERS}
    except urllib.error.HTTPError as error:
        if error.code not in (403, 405, 501):
            raise
    with open_http(urllib.request.Request(address), STALL_S) as response:
        return {key: response.headers.get(key) for key in HEADERS}


def _facts(address: str) -> dict[str, Any]:
    filesystem, path = open_filesystem(address)
    about = filesystem.info(path)
    return {key: about.get(key) for key in FACTS}
