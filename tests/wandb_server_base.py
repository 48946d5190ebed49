"""What the imitations of W&B's server have in common: how they are found, asked and answer."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "0123456789abcdef0123456789abcdef01234567"  # any forty characters are one


class WandbServer(ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]):
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What W&B's programs need to find this server."""
        return {
            "WANDB_BASE_URL": self.address,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
        }


class WandbHandler(BaseHTTPRequestHandler):
    """Reads and answers whole bodies, and says nothing of it."""

    def content(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reply(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass
