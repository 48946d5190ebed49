"""Imports PyTorch and ganscale once, then forks a process for each request of a `WarmProcess`.

Of the ten seconds that a rank of a short run takes, eight are imports. Where a test is not about
starting, its processes are forked from this one; all workers of a test session share it, and it
ends with the session.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

import psutil
from filelock import FileLock

from tests.system.processes import ROOT, environment
from tests.system.warm_process import ADDRESS, NUMBER, WarmProcess

BASE = ""
PRELOADED = {
    BASE: (
        "torch._dynamo",
        "torch.distributed.fsdp",
        "torch.utils.tensorboard",
        "ganscale.evaluation.evaluator",
        "ganscale.runs.report",
        "ganscale.training.trainer",
        "tests.conftest",
    ),
    # Its engine imports these when it begins, and with Muon the whole of Inductor.
    "deepspeed": (
        "deepspeed.runtime.zero.muon.muon_optimizer",
        "deepspeed.runtime.zero.stage3",
        "deepspeed.runtime.zero.stage_1_and_2",
    ),
}
"""What each kind of server has imported; `deepspeed` is forked from the first."""
SERVER = "tests.system.warm_server"
CLONE_NEWNS = 0x20000
STARTS_WITHIN_S = 120


class Request(NamedTuple):
    """What a process is to be."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    ignored: tuple[int, ...]
    streams: list[int]
    client: int


def warm_server(kind: str = BASE) -> str:
    """Return the address of the session's server of that kind; start it unless it is there."""
    address = Path(os.environ[ADDRESS] + (kind and f"-{kind}"))
    with FileLock(f"{address}.lock"):
        if not address.exists():
            if kind != BASE:
                warm_server()
            start(address, kind)
    return str(address)


def start(address: Path, kind: str) -> None:
    """Start a server and wait until it has imported everything."""
    log = Path(f"{address}.log")
    arguments = [SERVER, str(address), kind]
    variables = environment(DS_ACCELERATOR="cpu")  # DeepSpeed reads that when it is imported
    with log.open("wb") as file:
        streams = (file.fileno(), file.fileno(), file.fileno())
        if kind == BASE:
            subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=variables,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        else:
            WarmProcess(arguments, variables, str(ROOT), streams)
    deadline = time.monotonic() + STARTS_WITHIN_S
    while not address.exists():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def main() -> None:
    address, kind = Path(sys.argv[1]), sys.argv[2]
    for name in PRELOADED[kind]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector of a forked process touches, and so copies, none of these pages
    listener = socket.socket(socket.AF_UNIX)
    hidden = f"{address}.new"
    listener.bind(hidden)
    listener.listen(128)
    Path(hidden).rename(address)
    become(Server(listener, address).next_request())


class Server:
    """Forks, and tells each client how its process has ended."""

    def __init__(self, listener: socket.socket, address: Path):
        self.listener, self.address = listener, address
        self.clients: dict[int, socket.socket] = {}
        self.woken, wake = socket.socketpair()
        for end in (self.woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.wake = wake

    def next_request(self) -> Request:
        """Serve; returns in each forked process, with what it is to be."""
        while True:
            fixed = (self.listener, self.woken)
            ready, _, _ = select.select([*fixed, *self.clients.values()], [], [], 1)
            if self.listener in ready:
                client = self.listener.accept()[0]
                request = receive(client)
                if request is not None and self.fork(client, request):
                    return request
            if self.woken in ready:
                with suppress(BlockingIOError):
                    self.woken.recv(4096)
                self.reap()
            for pid, client in list(self.clients.items()):
                if client in ready:  # nothing is ever sent: the client has gone
                    os.kill(pid, signal.SIGKILL)
                    self.clients.pop(pid).close()
            if self.session_has_ended():
                self.end()

    def fork(self, client: socket.socket, request: Request) -> bool:
        """Return True in the new process."""
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (self.listener, self.woken, self.wake, client, *self.clients.values()):
                end.close()
            return True
        for stream in request.streams:
            os.close(stream)
        with suppress(ConnectionError):
            client.sendall(NUMBER.pack(pid))
        if request.arguments[0] == SERVER:  # other clients need it, too
            client.close()
        else:
            self.clients[pid] = client
        return False

    def reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.wait4(-1, os.WNOHANG))[0]:
                client = self.clients.pop(ended[0], None)
                if client is not None:
                    with suppress(ConnectionError):
                        client.sendall(NUMBER.pack(os.waitstatus_to_exitcode(ended[1])))
                    client.close()

    def session_has_ended(self) -> bool:
        """Return True once the pytest process that named the socket after itself is gone."""
        return not (
            self.address.exists() and psutil.pid_exists(int(self.address.name.split("-")[0]))
        )

    def end(self) -> NoReturn:
        for pid in self.clients:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


def receive(client: socket.socket) -> Request | None:
    """Read a request; None where the client has already gone."""
    about, streams, _, _ = socket.recv_fds(client, NUMBER.size, 3)
    if len(about) < NUMBER.size:
        return None
    size = NUMBER.unpack(about)[0]
    content = client.recv(size, socket.MSG_WAITALL)
    if len(content) < size:
        return None
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid = int.from_bytes(credentials[:4], sys.byteorder)
    arguments, variables, folder, ignored = json.loads(content)
    return Request(arguments, variables, folder, ignored, streams, pid)


def become(request: Request) -> None:
    """Turn this forked process into the one that was asked for."""
    os.setsid()
    enter_mounts_of(request.client)
    for stream, number in zip(request.streams, range(3), strict=True):
        os.dup2(stream, number)
        os.close(stream)
    # A stream remembers whether its file can seek.
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(  # noqa: SIM115
        2, "w", buffering=1, errors="backslashreplace", closefd=False
    )
    for number in request.ignored:
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    module, *sys.argv[1:] = request.arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def enter_mounts_of(client: int) -> None:
    """See the file systems that the client sees: a node of a test's cluster has some of its own."""
    with open(f"/proc/{client}/ns/mnt") as theirs, open("/proc/self/ns/mnt") as own:  # noqa: PTH123
        if not os.path.sameopenfile(theirs.fileno(), own.fileno()):
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(theirs.fileno(), CLONE_NEWNS) != 0:
                raise OSError(ctypes.get_errno(), "setns")


if __name__ == "__main__":
    main()
