"""One download of a remote file, limited in bytes and in time whatever the server does."""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any

from ganscale.data.shards.extras import open_filesystem
from ganscale.errors import GanscaleError

STALL_S = 30.0  # a connection that sends nothing for this long is abandoned
GRACE_S = 60.0  # the average rate is not checked earlier
MIN_BYTES_PER_S = 1 << 16  # on average
CHUNK = 1 << 20


class Download:
    """Receives one file in a thread that can be abandoned at any time.

    A socket timeout does not stop a server that sends one byte per second, and the file systems
    behind fsspec may have no timeout at all.
    """

    def __init__(
        self,
        url: str,
        size: int | None,
        max_bytes: int | None,
        limit: int,
        partial: Path,
        reserve: Callable[[str, Path, int], None],
    ):
        """Prepare a download into the file `partial`, which `reserve(url, partial, size)` creates.

        `size` is the exact size in bytes if it is known; otherwise the file may have at most
        `max_bytes` and at most `limit`.
        """
        self.url = url
        self.expected = size
        self.partial = partial
        self._max_bytes = max_bytes
        self._limit = limit
        self._reserve = reserve
        self._received = 0
        self._abandoned = False
        self._error: BaseException | None = None

    def run(self, stall_s: float) -> None:
        """Receive the file; raise the transfer's own error, or `TimeoutError` if it is too slow."""
        thread = threading.Thread(target=self._receive, args=(stall_s,), daemon=True)
        started = progressed = time.monotonic()
        seen = 0
        thread.start()
        try:
            while thread.is_alive():
                thread.join(min(1.0, stall_s / 4))
                now = time.monotonic()
                if self._received > seen:
                    seen, progressed = self._received, now
                if thread.is_alive() and now - progressed > stall_s:
                    raise TimeoutError(f"nothing arrived for {stall_s:g} s")
                if thread.is_alive() and now - started > GRACE_S + seen / MIN_BYTES_PER_S:
                    raise TimeoutError(f"only {seen:,} bytes arrived in {now - started:,.0f} s")
        finally:
            self._abandoned = True
        if self._error is not None:
            raise self._error

    def _receive(self, stall_s: float) -> None:
        try:
            with _open_url(self.url, stall_s) as (source, announced):
                if self.expected is None and announced is not None:
                    self.expected = announced
                    _check_size(announced, self._max_bytes or announced)
                if self._abandoned:
                    return
                self._reserve(self.url, self.partial, self.expected or 0)
                with self.partial.open("r+b") as file:
                    self._copy(source, file)
        except BaseException as error:
            self._error = error

    def _copy(self, source: IO[bytes], file: IO[bytes]) -> None:
        read = getattr(source, "read1", source.read)  # do not wait for a whole chunk
        limit = self._limit if self._max_bytes is None else min(self._limit, self._max_bytes)
        limit = limit if self.expected is None else self.expected
        while not self._abandoned and (chunk := read(CHUNK)):
            self._received += len(chunk)
            _check_size(self._received, limit)
            file.write(chunk)
        file.truncate()


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"it is larger than {limit:,} bytes")


class _HttpRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to any host, but only over http and https."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the redirected request; raise `GanscaleError` unless it uses http or https."""
        if not newurl.startswith(("http://", "https://")):
            raise GanscaleError(f"{req.full_url}: redirects to {newurl}, which is not fetched")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_http(request: urllib.request.Request, stall_s: float) -> Any:
    """Send a request over http or https and return the open response, after any redirects."""
    return urllib.request.build_opener(_HttpRedirects).open(request, timeout=stall_s)


@contextmanager
def _open_url(url: str, stall_s: float) -> Iterator[tuple[IO[bytes], int | None]]:
    """Open a remote file; yield the open file and its size in bytes if the server tells it."""
    if url.startswith(("http://", "https://")):
        with open_http(urllib.request.Request(url), stall_s) as response:
            length = response.headers.get("Content-Length") or ""
            known = length.isascii() and length.isdecimal() and len(length) < 19
            yield response, int(length) if known else None
        return
    filesystem, path = open_filesystem(url)
    with filesystem.open(path, "rb") as file:
        yield file, filesystem.size(path)
