"""W&B's server as far as its programs upload to it, on this machine; it can also fail.

It keeps what it receives as W&B does: lines of a file at their offsets, files by their names.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import wandb

from tests.servers import running
from tests.wandb_server_base import WandbHandler, WandbServer

HISTORY, EVENTS, OUTPUT = "wandb-history.jsonl", "wandb-events.jsonl", "output.log"


@dataclass
class CloudRun:
    """What the server has of one run."""

    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)

    def text(self, name: str) -> list[str]:
        """The lines of a streamed file, in order; no gap may be among them."""
        lines = self.lines.get(name, {})
        assert sorted(lines) == list(range(len(lines)))
        return [lines[i] for i in range(len(lines))]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The measurements in the order in which they were received."""
        return [json.loads(line) for line in self.text(HISTORY)]

    @property
    def steps(self) -> list[int]:
        return [line["_step"] for line in self.history]


@dataclass
class Answer:
    """What the server answers instead of what it should."""

    status: int = 200
    body: bytes = b""


Trouble = Callable[[str], Answer | None]
"""Says for each request (its path, or the GraphQL operation) whether it goes wrong."""


class Cloud(WandbServer):
    """Takes runs; `trouble` makes it fail, and `stalled` makes it answer nothing."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.runs: dict[str, CloudRun] = {}
        self.views: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.trouble: Trouble = lambda request: None
        self.stalled = threading.Event()
        self.stop_asked = False
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has given up waiting is none of this server's troubles."""

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """To a GraphQL query."""
        if "upsertBucket" in query:
            return {"upsertBucket": {"bucket": self._upsert(given), "inserted": True}}
        if "createRunFiles" in query:
            files = [{"name": n, "uploadUrl": self._place(given["run"], n)} for n in given["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        if "historyLineCount" in query:
            found = self.runs.get(given.get("run") or given["name"])
            project = {"id": "1", "name": "p", "entity": {"id": "1", "name": "e"}}
            return {"model": {**project, "bucket": None if found is None else _status(found)}}
        if "files(" in query:
            files = self.runs[given["run"]].files.items()
            edges = [{"node": {"name": n, "sizeBytes": str(len(data))}} for n, data in files]
            page = {"endCursor": None, "hasNextPage": False}
            return {"project": {"run": {"files": {"edges": edges, "pageInfo": page}}}}
        if "notifyScriptableRunAlert" in query:
            self.runs[given["runName"]].alerts.append(given["title"])
            return {"notifyScriptableRunAlert": {"success": True}}
        if "stopped" in query:
            run = {"stopped": self.stop_asked}
            return {"project": {"run": run}}
        if "upsertView" in query:
            self.views.append(given)
            return {"upsertView": {"view": {"id": "1", "name": "view"}, "inserted": True}}
        if "serverInfo" in query:
            return {"serverInfo": {"features": []}}
        return {
            "viewer": {"id": "1", "username": "u", "entity": "e", "flags": "{}"}
            | {"teams": {"edges": []}}
        }

    def _upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(given["name"], CloudRun())
        if given.get("config"):
            run.config |= json.loads(given["config"])
        project = {"id": "1", "name": given["project"], "entity": {"id": "1", "name": "e"}}
        return {"id": "1", "name": given["name"], "displayName": given["displayName"]} | {
            "project": project,
            "config": json.dumps(run.config),
            "sweepName": None,
            "historyLineCount": len(run.lines.get(HISTORY, {})),
        }

    def _place(self, run: str, name: str) -> str:
        return f"{self.address}/upload/{run}/{name}"

    def stream(self, run: str, sent: dict[str, Any]) -> None:
        """Take lines, each at its place."""
        found = self.runs[run]
        for name, chunk in (sent.get("files") or {}).items():
            if name == "wandb-summary.json":
                found.summary = json.loads(chunk["content"][-1])
                continue
            lines = found.lines.setdefault(name, {})
            lines |= dict(enumerate(chunk["content"], chunk["offset"]))
        if sent.get("complete"):
            found.exit_codes.append(sent["exitcode"])


def _status(run: CloudRun) -> dict[str, Any]:
    def tail(name: str) -> str:
        return json.dumps(run.text(name)[-1:])

    def count(name: str) -> int:
        return len(run.lines.get(name, {}))

    return {
        "id": "1",
        "name": "r",
        "displayName": "r",
        "summaryMetrics": json.dumps(run.summary),
        "logLineCount": count(OUTPUT),
        "historyLineCount": count(HISTORY),
        "eventsLineCount": count(EVENTS),
        "historyTail": tail(HISTORY),
        "eventsTail": tail(EVENTS),
        "config": json.dumps(run.config),
        "tags": [],
        "notes": None,
        "wandbConfig": json.dumps({"t": 1}),
    }


class _Handler(WandbHandler, BaseHTTPRequestHandler):
    server: Cloud
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = self.content()
        query, given = "", {}
        if self.path == "/graphql":
            asked = json.loads(content)
            query, given = asked["query"], asked.get("variables") or {}
        if self._is_refused(" ".join(query.split())[:60] or self.path):
            return
        with self.server.lock:
            if query:
                self.reply(json.dumps({"data": self.server.answer(query, given)}).encode())
            elif self.path.endswith("/file_stream"):
                self.server.stream(self.path.split("/")[-2], json.loads(content))
                stop = {"stopped": True} if self.server.stop_asked else {}
                self.reply(json.dumps({"limits": {}, **stop}).encode())
            else:
                self.reply(b"{}")

    def do_PUT(self) -> None:
        content = self.content()
        if self._is_refused(self.path):
            return
        _, _, run, name = self.path.split("/", 3)
        self.server.runs[run].files[name] = content
        self.reply(b"")

    def _is_refused(self, request: str) -> bool:
        self.server.asked.append(request)
        while self.server.stalled.is_set():
            time.sleep(0.02)
        trouble = self.server.trouble(request)
        if trouble is not None:
            self.reply(trouble.body, trouble.status)
        return trouble is not None


def serving_cloud() -> AbstractContextManager[Cloud]:
    return running(Cloud())


@contextmanager
def logged_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A server that W&B is logged in to, in this process and those that it starts."""
    with serving_cloud() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        wandb.teardown()
        try:
            yield server
        finally:
            server.stalled.clear()
            with suppress(ConnectionError):  # a test may have killed its program
                wandb.teardown()
