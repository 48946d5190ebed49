"""HTTP servers on 127.0.0.1 that live as long as a test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import TypeVar

AnyServer = TypeVar("AnyServer", bound=ThreadingHTTPServer)


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    """Serve in a thread of its own, and end with the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
