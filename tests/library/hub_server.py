"""A server that speaks as much of the Hugging Face Hub's API as uploads and downloads need."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import yaml

TOKEN = "hf_of_the_test"


class Hub:
    """The models that were uploaded, by name: the contents of their files."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.answers: dict[str, int] = {}
        """The status with which requests are refused whose path contains the key."""
        self.asked: list[str] = []
        """The paths of all requests."""
        self.address = ""

    def commit(self, name: str) -> str:
        """The id of what the model holds now."""
        content = b"".join(path.encode() + c for path, c in sorted(self.models[name].items()))
        return hashlib.sha1(content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answering", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _refuses(self) -> bool:
        """Answer as the test wishes; says the token back, as a careless server might."""
        self.hub.asked.append(self.path)
        for part, status in self.hub.answers.items():
            if part in self.path:
                self._answer({"error": f"no, {self.headers.get('Authorization')}"}, status)
                return True
        return False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refuses():
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.hub.models:
                url = f"{self.hub.address}/{name}"
                self._answer({"error": "You already created this model repo", "url": url}, 409)
                return
            self.hub.models[name] = {}
            if asked.get("private") or asked.get("visibility") == "private":
                self.hub.private.add(name)
            self._answer({"url": f"{self.hub.address}/{name}"})
        elif self.path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            files = json.loads(body)["files"]
            kinds = {"uploadMode": "regular", "shouldIgnore": False}
            self._answer({"files": [{"path": file["path"], **kinds} for file in files]})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            self._take(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._answer({"error": f"no {self.path}"}, 404)

    def _validate(self, card: str) -> None:
        """Check the licence, as one of the things that the hub checks of a card."""
        license = yaml.safe_load(card.split("---\n")[1]).get("license", "mit")
        known = license in ("mit", "cc-by-4.0", "other")
        errors = [] if known else [{"message": '"license" must be one of [mit, cc-by-4.0, other]'}]
        self._answer({"warnings": [], "errors": errors}, 200 if known else 400)

    def do_GET(self) -> None:
        if self._refuses():
            return
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/?]+)?.*", self.path):
            files = self.hub.models.get(match[1])
            if files is None:
                self._answer({"error": "Repository not found"}, 404, "RepoNotFound")
                return
            if "/tree/" in self.path:
                self._answer([_entry(path, content) for path, content in files.items()])
                return
            siblings = [{"rfilename": path} for path in files]
            sha = self.hub.commit(match[1])
            about = {"id": match[1], "private": match[1] in self.hub.private, "tags": []}
            self._answer({**about, "sha": sha, "siblings": siblings})
        else:
            self._send_file(body=True)

    def do_HEAD(self) -> None:
        self._send_file(body=False)

    def _take(self, name: str, lines: list[Any]) -> None:
        for line in lines:
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.hub.models[name][line["value"]["path"]] = content
        sha = self.hub.commit(name)
        address = f"{self.hub.address}/{name}/commit/{sha}"
        self._answer({"success": True, "commitOid": sha, "commitUrl": address})

    def _send_file(self, body: bool) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/([^?]+).*", self.path)
        content = self.hub.models.get(match[1], {}).get(match[2]) if match else None
        if match is None or content is None:
            self._answer({"error": "Entry not found"}, 404, "EntryNotFound")
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", self.hub.commit(match[1]))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _answer(self, content: Any, status: int = 200, error: str = "") -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
