"""The server answers its own page, reads only, and knows no path but the runs'."""

import gzip
import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from ganscale.errors import GanscaleError
from ganscale.pages.watch import server as module
from ganscale.pages.watch.server import WatchServer, listen
from ganscale.pages.watch.watcher import Watcher
from tests.servers import running
from tests.written_runs import draw, log, write_run


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WatchServer]:
    run = write_run(tmp_path, name="run")
    log(run, *range(1, 2000))
    draw(run, 10)
    with running(listen("127.0.0.1", 38700, Watcher([tmp_path]), [str(tmp_path)])) as started:
        yield started


def ask(server: WatchServer, path: str, method: str = "GET", **headers: str) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", server.server_port)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=named)
    return connection.getresponse()


def test_every_answer_forbids_what_the_page_does_not_need(server: WatchServer) -> None:
    for path in ("/", "/runs?since=0", "/nowhere"):
        policy = ask(server, path).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
    assert ask(server, "/").read().startswith(b"<!doctype html>")


def test_a_request_by_a_strangers_name_is_refused(server: WatchServer) -> None:
    for host in (
        "evil.example",
        f"evil.example:{server.server_port}",
        "",
        "127.0.0.1.evil.example",
    ):
        assert ask(server, "/runs", Host=host).status == 403
    for host in ("localhost", f"127.0.0.1:{server.server_port}", "[::1]:1"):
        assert ask(server, "/runs", Host=host).status == 200


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/../../etc/passwd",
            "/%2e%2e/etc/passwd",
            "//etc/passwd",
            "/grids/1/../../x",
            "/looks.py",
        ),
        *("/grids/1", "/grids/x/10", "/grids/1/11", "/grids/9/10", "/grids/1/10/0", "/server.py"),
        *("/curves", "/curves?x=tea", "/runs?since=-1", "/runs?since=" + "9" * 99, "/run/1"),
    ],
)
def test_there_is_nothing_else(server: WatchServer, path: str) -> None:
    ask(server, "/runs").read()
    assert ask(server, path).status == 404


def test_nothing_can_be_changed(server: WatchServer) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert ask(server, "/runs", method).status == 501


def test_a_large_answer_is_compressed_for_whoever_can_read_it(server: WatchServer) -> None:
    ask(server, "/runs").read()
    path = "/curves?x=steps&run=1&metric=loss_generator&since=0"
    small = ask(server, path, Accept_Encoding="gzip").read()
    assert json.loads(gzip.decompress(small))["curves"][0]["x"][-1] == 1999
    assert ask(server, "/grids/1/10").read().startswith(b"\x89PNG")


def test_a_taken_port_gives_way_to_the_next(server: WatchServer, tmp_path: Path) -> None:
    with listen("127.0.0.1", server.server_port, Watcher([tmp_path]), []) as other:
        assert other.server_port > server.server_port


def test_without_a_free_port_or_a_known_host_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PORTS_TRIED", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(GanscaleError, match="all taken"):
            listen("127.0.0.1", port, Watcher([tmp_path]), [])
    with pytest.raises(GanscaleError, match=r"cannot listen on 192\.0\.2\.1"):
        listen("192.0.2.1", 38700, Watcher([tmp_path]), [])
