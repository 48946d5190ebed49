"""Weights arrive whole or not at all, whatever a server does, and a file runs no code."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn

from ganscale.errors import GanscaleError
from ganscale.evaluation.features import weights as module
from ganscale.evaluation.features.weights import Source, open_weights
from ganscale.files import sha256_of_file
from tests.evaluation.replay import HOST


class Server(ThreadingHTTPServer):
    """Sends `content` in the way that the address asks for, and counts the requests."""

    content = b""
    requests = 0
    daemon_threads = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        way, content = self.path.strip("/").partition("/")[0], self.server.content
        if way == "refused":
            self.send_error(403)
            return
        self.send_response(200)
        if way != "unannounced":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if way == "wrong":
            content = content[:-1] + b"?"
        if way in ("cut", "unannounced", "stalled"):
            content = content[: len(content) // 2]
        self.wfile.write(content)
        if way == "stalled":
            self.wfile.flush()
            time.sleep(2)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def source(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A network whose published weights are one tensor."""
    torch.save({"a.b": torch.arange(5.0), "c": torch.ones(2)}, tmp_path / "published.pth")
    server.content = (tmp_path / "published.pth").read_bytes()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(module, "STALL_S", 0.4)
    sha256 = hashlib.sha256(server.content).hexdigest()
    return Source("Tiny", f"{server.address}/whole/tiny.pth", "tiny.pth", sha256, 1)


def test_a_whole_download_is_kept_and_asked_for_once(source: Source, server: Server) -> None:
    for _ in range(2):
        found = open_weights(source, None, HOST)
        assert found.sha256 == source.sha256
        assert torch.equal(found.tensors["a.b"], torch.arange(5.0))
        assert found.tensors.keys() == {"a.b", "c"}
    assert server.requests == 1
    assert list(source.cached.parent.iterdir()) == [source.cached]


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("cut", r"only \d+ of [\d,]+ bytes|IncompleteRead"),
        ("unannounced", "SHA-256 of what arrived"),
        ("wrong", "SHA-256 of what arrived"),
        ("refused", "403"),
        ("stalled", "timed out|nothing arrived"),
        ("closed", "refused"),
    ],
)
def test_what_is_not_whole_never_has_the_final_name(
    source: Source, server: Server, way: str, why: str
) -> None:
    address = f"{server.address}/{way}/tiny.pth"
    if way == "closed":
        address = "http://127.0.0.1:9/tiny.pth"
    with pytest.raises(GanscaleError, match=why) as caught:
        open_weights(replace(source, address=address), None, HOST)
    said = str(caught.value)
    assert all(part in said for part in (address, str(source.cached), "evaluation.weights"))
    assert "\n" not in said
    assert caught.value.every_rank
    assert list(source.cached.parent.iterdir()) == []
    assert len(open_weights(source, None, HOST).tensors) == 2  # nothing is in the way


def test_another_file_in_the_cache_is_refused_and_one_that_is_given_is_not(
    source: Source, server: Server, tmp_path: Path
) -> None:
    source.cached.parent.mkdir(parents=True)
    torch.save({"a.b": torch.zeros(5)}, source.cached)
    with pytest.raises(GanscaleError, match=r"SHA-256 is \w{64}, and should be \w{64}; delete it"):
        open_weights(source, None, HOST)
    found = open_weights(source, str(source.cached), HOST)
    assert found.sha256 == sha256_of_file(source.cached)
    assert server.requests == 0
    with pytest.raises(GanscaleError, match=r"none\.pth.*No such file.*evaluation\.weights"):
        open_weights(source, str(tmp_path / "none.pth"), HOST)


def test_a_file_of_something_else_is_refused_and_not_run(source: Source, tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save(Harmful(), tmp_path / "harmful.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty.pth").touch()
    for name in ("harmful", "list", "text", "empty"):
        with pytest.raises(GanscaleError, match=rf"{name}\.pth' cannot be used \(torch reads no"):
            open_weights(source, str(tmp_path / f"{name}.pth"), HOST)
    assert not (tmp_path / "harm").exists()


def test_only_the_published_archive_is_opened_as_one(source: Source, tmp_path: Path) -> None:
    """A TorchScript archive contains code."""
    for name in ("published", "other"):
        script = torch.jit.script(
            nn.ModuleDict({"visual": nn.Linear(2, 1), "text": nn.Linear(1, 1)})
        )
        torch.jit.save(script, tmp_path / f"{name}.pt")
    sha256 = sha256_of_file(tmp_path / "published.pt")
    archive = replace(source, sha256=sha256, is_archive=True, prefix="visual.")
    found = open_weights(archive, str(tmp_path / "published.pt"), HOST)
    assert {key: value.shape for key, value in found.tensors.items()} == {
        "weight": (1, 2),
        "bias": (1,),
    }
    with pytest.raises(GanscaleError, match=r"other\.pt' cannot be used"):
        open_weights(archive, str(tmp_path / "other.pt"), HOST)


@pytest.mark.parametrize("kind", ["device", "FIFO"])
def test_a_file_without_an_end_is_refused_at_once(
    source: Source, tmp_path: Path, kind: str
) -> None:
    """A stranger's experiment names the file."""
    given = Path("/dev/zero")
    if kind == "FIFO":
        given = tmp_path / "fifo"
        os.mkfifo(given)
    with pytest.raises(GanscaleError, match=r"cannot be used .*not a regular file"):
        open_weights(source, str(given), HOST)


def test_a_file_too_large_to_be_weights_is_not_read(source: Source, tmp_path: Path) -> None:
    with (tmp_path / "large.pth").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(GanscaleError, match=r"cannot be used .*may have no more than"):
        open_weights(source, str(tmp_path / "large.pth"), HOST)
