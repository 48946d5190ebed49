"""A server that speaks as much of the Hugging Face Hub's API as datasets need."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.servers import running

TOKEN = "hf_of_the_test"
CONVERTED = "refs/convert/parquet"


class DatasetHub(ThreadingHTTPServer):
    """Datasets by name and branch: the contents of their files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.datasets: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.down = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, name: str, files: dict[str, bytes], branch: str = "main") -> None:
        self.datasets.setdefault(name, {})[branch] = files

    def commit(self, name: str, branch: str) -> str:
        files = self.datasets[name][branch]
        return hashlib.sha1(b"".join(p.encode() + c for p, c in sorted(files.items()))).hexdigest()

    def files(self, name: str, revision: str) -> dict[str, bytes] | None:
        """What is there at a branch or a commit."""
        for branch, files in self.datasets.get(name, {}).items():
            if revision in (branch, self.commit(name, branch)):
                return files
        return None


class _Handler(BaseHTTPRequestHandler):
    server: DatasetHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._act(body=True)

    def do_HEAD(self) -> None:
        self._act(body=False)

    def _act(self, body: bool) -> None:
        path = self.path.replace("%2F", "/").partition("?")[0]
        self.server.asked.append(path)
        if self.server.down:
            self._refuse(503, "")
            return
        about = re.fullmatch(r"/api/datasets/([^/]+/[^/]+?)(?:/revision/(.+))?", path)
        file = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([0-9a-f]+)/(.+)", path)
        match = about or file
        name = match[1] if match else ""
        logged_in = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if name not in self.server.datasets or (name in self.server.private and not logged_in):
            self._refuse(401, "RepoNotFound")
        elif file and name in self.server.gated and not logged_in:
            self._refuse(403, "GatedRepo")
        elif about:
            self._describe(name, about[2] or "main")
        elif file:
            self._send(name, file[2], file[3], body)

    def _describe(self, name: str, revision: str) -> None:
        files = self.server.files(name, revision)
        if files is None:
            self._refuse(404, "RevisionNotFound")
            return
        branch = next(b for b, found in self.server.datasets[name].items() if found is files)
        siblings = [{"rfilename": path} for path in files]
        sha = self.server.commit(name, branch)
        content = json.dumps({"id": name, "sha": sha, "siblings": siblings, "tags": []}).encode()
        self._answer(200, content, {"Content-Type": "application/json"})

    def _send(self, name: str, commit: str, path: str, body: bool) -> None:
        content = (self.server.files(name, commit) or {}).get(path)
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        self._answer(200, content, {"ETag": tag, "X-Repo-Commit": commit}, body)

    def _refuse(self, status: int, kind: str) -> None:
        said = f"no, {self.headers.get('Authorization')}"  # as a careless server might
        content = json.dumps({"error": said}).encode()
        self._answer(status, content, {"X-Error-Code": kind, "X-Error-Message": said})

    def _answer(
        self, status: int, content: bytes, headers: dict[str, str], body: bool = True
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def serving_datasets(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[DatasetHub]:
    """Let huggingface_hub speak with such a server, and leave the user's cache and token alone."""
    from huggingface_hub import constants

    with running(DatasetHub()) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub-cache"))
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        monkeypatch.setenv("HF_TOKEN", "")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-token"))
        yield hub
