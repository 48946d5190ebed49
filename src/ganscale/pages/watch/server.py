"""The server of the page: a few files of the package, and what a `Watcher` answers.

It reads only, and answers only for itself: a page of another site, whose name an attacker lets
resolve to this machine (DNS rebinding), comes with that name as its `Host` and is refused.
"""

import errno
import gzip
import ipaddress
import json
import secrets
import socket
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ganscale.errors import GanscaleError
from ganscale.pages.watch.watcher import Watcher
from ganscale.runs.looks import STYLESHEET

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
FILES = {f"/{path.name}": path for path in (*PAGE.iterdir(), STYLESHEET) if path.suffix in KINDS}
FILES["/"] = PAGE / "watch.html"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        *(f"{what} 'none'" for what in ("base-uri", "form-action", "frame-ancestors")),
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PORTS_TRIED = 20
COMPRESSED_BYTES = 10_000
"""From this size on an answer is compressed: the page may be far away, behind a tunnel."""
IDLE_S = 60


class WatchServer(ThreadingHTTPServer):
    """Serves the page of a watcher."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], watcher: Watcher, folders: Sequence[str]):
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.watcher = watcher
        self.folders = folders
        self.session = secrets.token_hex(8)  # by which a page notices that the server is another
        self.own_names = {"localhost", address[0].lower(), socket.gethostname().lower()}
        super().__init__(address, _Handler)

    def handle_error(self, *_: Any) -> None:
        """A page that was closed while it was answered is no error."""


def listen(host: str, port: int, watcher: Watcher, folders: Sequence[str]) -> WatchServer:
    """Return a server on `port` or, where that is taken, on the next port that is free.

    Raises `GanscaleError` if none of the next ports is free, or the host is not this machine.
    """
    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        try:
            return WatchServer((host, candidate), watcher, folders)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise GanscaleError(
                    f"cannot listen on {host}:{candidate}: {error.strerror}; choose another "
                    "--host or --port"
                ) from None
    raise GanscaleError(
        f"the ports {port} to {candidate} of {host} are all taken; choose another with --port"
    )


class _Handler(BaseHTTPRequestHandler):
    """Answers one page, which keeps its connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server: WatchServer

    def do_GET(self) -> None:
        """Answer with a file of the page, a picture or an object."""
        if not self._is_for_us():
            self._send(HTTPStatus.FORBIDDEN, b"This server has another name.\n", "text/plain")
            return
        address = urlsplit(self.path)
        try:
            if address.path in FILES:
                path = FILES[address.path]
                self._send(HTTPStatus.OK, path.read_bytes(), KINDS[path.suffix])
            elif address.path.startswith("/grids/"):
                _, _, run, step = address.path.split("/")
                picture = self.server.watcher.grid(_whole(run), _whole(step))
                self._send(HTTPStatus.OK, picture, "image/png")
            else:
                answer = self._answer(address.path, parse_qs(address.query))
                text = json.dumps(answer, allow_nan=False, separators=(",", ":"))
                self._send(HTTPStatus.OK, text.encode(), "application/json")
        except (LookupError, ValueError, FileNotFoundError, GanscaleError):
            self._send(HTTPStatus.NOT_FOUND, b"There is no such thing here.\n", "text/plain")

    def _answer(self, path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        watcher = self.server.watcher
        numbers = [_whole(number) for number in query.get("run", [])]
        since = _whole(query.get("since", ["0"])[0])
        if path == "/runs":
            about = {"session": self.server.session, "folders": self.server.folders}
            return {**about, **watcher.runs(since)}
        if path == "/curves":
            return watcher.curves(since, query["x"][0], numbers, query.get("metric", []))
        if path == "/differences":
            return watcher.differences(numbers)
        raise LookupError(path)

    def _is_for_us(self) -> bool:
        """Return whether the request names this server: by a name of its own or by an address."""
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        if host is None:
            return False
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return host in self.server.own_names
        return True

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if kind == "image/png":  # a step's grid is drawn once
            self.send_header("Cache-Control", "private, max-age=60")
        else:
            self.send_header("Cache-Control", "no-store")
            kind += "; charset=utf-8"
            accepted = self.headers.get("Accept-Encoding", "")
            if len(content) > COMPRESSED_BYTES and "gzip" in accepted:
                content = gzip.compress(content, 1)
                self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing: a page asks every few seconds."""


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)
