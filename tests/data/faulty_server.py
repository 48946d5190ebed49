"""A file server on this machine that fails in every way a real one does."""

import threading
import time
from collections import Counter
from contextlib import AbstractContextManager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.servers import running

FAULTS = ("error", "stall", "truncate", "corrupt")
STALL_S = 1.5
HOSTILE = ("drip", "drip headers", "flood", "announce")


class Server(ThreadingHTTPServer):
    """Serves a folder; `faults` are given to the first requests of each path, one after another.

    A file of `faults_of` is always given that one; a path of `redirects` is sent elsewhere.
    """

    def __init__(self, folder: Path, faults: tuple[str, ...]):
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.faults = faults
        self.faults_of: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.requests: Counter[str] = Counter()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        with self.server.lock:
            number = self.server.requests[self.path]
            self.server.requests[self.path] += 1
        file = Path(self.translate_path(self.path))
        fault = self.server.faults[number] if number < len(self.server.faults) else ""
        fault = self.server.faults_of.get(file.name, fault)
        if self.path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[self.path])
            self.end_headers()
            return
        if fault == "error":
            self.send_error(503)
            return
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        if fault in HOSTILE:
            with suppress(ConnectionError):
                self._attack(fault, content)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        if fault == "stall":
            self.wfile.write(content[:half])
            self.wfile.flush()
            time.sleep(STALL_S)
        elif fault == "truncate":
            self.wfile.write(content[:half])
            self.wfile.flush()
        elif fault == "corrupt":
            self.wfile.write(content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
        else:
            self.wfile.write(content)
        self.close_connection = True

    def _attack(self, fault: str, content: bytes) -> None:
        """Never ends by itself: the other side must."""
        self.close_connection = True
        if fault == "drip headers":
            self._drip(b"HTTP/1.0 200 OK\r\n" + b"X-Y: z\r\n" * 10**4)
        self.send_response(200)
        if fault == "announce":
            self.send_header("Content-Length", str(10**12))
        elif fault == "drip":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "drip":
            self._drip(content)
        while True:
            self.wfile.write(bytes(1 << 16))

    def _drip(self, content: bytes) -> None:
        for byte in content:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.02)

    def log_message(self, *arguments: object) -> None:
        pass


def serving(folder: Path, faults: tuple[str, ...] = ()) -> AbstractContextManager[Server]:
    return running(Server(folder, faults))
