"""One transfer of a remote file: bounded in bytes and in time, whatever the other side does."""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPMessage
from pathlib import Path
from typing import IO

import fsspec

from ganscale.errors import GanscaleError

STALL_S = 30.0  # a connection that sends nothing for so long is given up
GRACE_S = 60.0  # before the mean rate counts
SLOWEST = 1 << 16  # bytes a second that a transfer must reach on average
CHUNK = 1 << 20


class Download:
    """A file on its way, received by a thread that can be given up at any time.

    No time limit of a socket stops a server that sends a byte a second, and file systems behind
    fsspec may have no limit at all.
    """

    def __init__(
        self,
        url: str,
        size: int | None,
        most: int | None,
        limit: int,
        partial: Path,
        reserve: Callable[[str, Path, int], None],
    ):
        """`size` is the file's if it is known; else it may have up to `most` bytes and `limit`.

        `reserve(url, partial, size)` makes the file that it is written to.
        """
        self.url = url
        self.expected = size
        self.partial = partial
        self._most = most
        self._limit = limit
        self._reserve = reserve
        self._received = 0
        self._given_up = False
        self._error: BaseException | None = None

    def run(self, stall_s: float) -> None:
        """Receive the file; raises what the transfer met, or `TimeoutError`."""
        thread = threading.Thread(target=self._receive, args=(stall_s,), daemon=True)
        started = moved = time.monotonic()
        seen = 0
        thread.start()
        try:
            while thread.is_alive():
                thread.join(min(1.0, stall_s / 4))
                now = time.monotonic()
                if self._received > seen:
                    seen, moved = self._received, now
                if thread.is_alive() and now - moved > stall_s:
                    raise TimeoutError(f"nothing arrived for {stall_s:g} s")
                if thread.is_alive() and now - started > GRACE_S + seen / SLOWEST:
                    raise TimeoutError(f"only {seen:,} bytes arrived in {now - started:,.0f} s")
        finally:
            self._given_up = True
        if self._error is not None:
            raise self._error

    def _receive(self, stall_s: float) -> None:
        try:
            with _opened(self.url, stall_s) as (source, announced):
                if self.expected is None and announced is not None:
                    self.expected = announced
                    self._refuse_more_than(self._most or announced, announced)
                if self._given_up:
                    return
                self._reserve(self.url, self.partial, self.expected or 0)
                with self.partial.open("r+b") as file:
                    self._copy(source, file)
        except BaseException as error:
            self._error = error

    def _copy(self, source: IO[bytes], file: IO[bytes]) -> None:
        read = getattr(source, "read1", source.read)  # what has arrived, not a whole chunk
        most = self._limit if self._most is None else min(self._limit, self._most)
        most = most if self.expected is None else self.expected
        while not self._given_up and (chunk := read(CHUNK)):
            self._received += len(chunk)
            self._refuse_more_than(most, self._received)
            file.write(chunk)
        file.truncate()

    def _refuse_more_than(self, most: int, number: int) -> None:
        if number > most:
            raise ValueError(f"it is larger than {most:,} bytes")


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows a server to another host, and to no other kind of address."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The request that follows; `GanscaleError` where it would not be one of http."""
        if not newurl.startswith(("http://", "https://")):
            raise GanscaleError(f"{req.full_url}: redirects to {newurl}, which is not fetched")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def _opened(url: str, stall_s: float) -> Iterator[tuple[IO[bytes], int | None]]:
    """The bytes of a remote file, and how many there are where the other side says so."""
    if url.startswith(("http://", "https://")):
        opener = urllib.request.build_opener(_WebOnly)
        with opener.open(url, timeout=stall_s) as response:
            length = response.headers.get("Content-Length") or ""
            known = length.isascii() and length.isdecimal() and len(length) < 19
            yield response, int(length) if known else None
        return
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise GanscaleError(f"{url}: {error}") from None
    with filesystem.open(path, "rb") as file:
        yield file, filesystem.size(path)
