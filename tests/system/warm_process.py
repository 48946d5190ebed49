"""A process that begins with everything imported: forked by `warm_server.py` on request.

As a program, `python warm_process.py ganscale train …`, it stands for the forked process: the
process has its arguments, environment, folder, streams, ignored signals and mount namespace, gets
the signals that it gets, and its exit code becomes its own. Killed, it takes the process with it.
It imports nothing but the standard library, so that it starts at once.
"""

import array
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress

ADDRESS = "GANSCALE_WARM_SERVER"  # the environment variable that names the server's socket
NUMBER = struct.Struct("!i")
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class WarmProcess:
    """The module `arguments[0]` run as `__main__`; used like `subprocess.Popen`."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        folder: str,
        streams: tuple[int, int, int],
        ignored: tuple[int, ...] = (),
        server: str | None = None,
    ):
        self.returncode: int | None = None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(server or os.environ[ADDRESS])
        request = (arguments, environment, folder, ignored)
        content = json.dumps(request).encode(errors="surrogateescape")
        files = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))
        self._socket.sendmsg([NUMBER.pack(len(content))], [files])
        self._socket.sendall(content)
        self.pid = self._answer()

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, or the negative number of the signal that ended the process.

        TimeoutError if that takes longer than so many seconds.
        """
        if self.returncode is None:
            if not select.select([self._socket], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} is still running after {timeout} s")
            self.returncode = self._answer()
            self._socket.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs."""
        with suppress(TimeoutError):
            return self.wait(timeout=0)
        return None

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def fileno(self) -> int:
        """Return what `select` finds readable once the process has ended."""
        return self._socket.fileno()

    def _answer(self) -> int:
        received = self._socket.recv(NUMBER.size, socket.MSG_WAITALL)
        if len(received) < NUMBER.size:
            raise ConnectionError("the server of warm processes has ended")
        answer: int = NUMBER.unpack(received)[0]
        return answer


def main() -> None:
    ignored = tuple(int(n) for n in FORWARDED if signal.getsignal(n) is signal.SIG_IGN)
    early: list[int] = []
    for number in FORWARDED:
        signal.signal(number, lambda number, _: early.append(number))
    folder = os.getcwd()  # noqa: PTH109 - pathlib takes time to import
    process = WarmProcess(sys.argv[1:], dict(os.environ), folder, (0, 1, 2), ignored)
    for number in FORWARDED:
        signal.signal(number, lambda number, _: process.send_signal(number))
    for heard in early:
        process.send_signal(heard)
    code = process.wait()
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        time.sleep(60)  # until the signal arrives
    os._exit(code)


if __name__ == "__main__":
    main()
