"""Trials in a child process, so that a crash or a hang is seen and counted.

python -m tests.fuzz.campaign [--minutes M] [--seed S] [--kind KIND]
"""

import argparse
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.fuzz.targets import JUDGED, TRIALS, decode_every_way, run_trial

HANG_S = 60.0
MEMORY_BYTES = 3 << 30  # that a trial may take beyond what the process has
FAULTS = ("silent", "crashed", "hung", "traceback")


def _serve(pipe: Connection, folder: str) -> None:
    """The child: runs trials, by number or on bytes, until the pipe closes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    quiet = os.open(os.devnull, os.O_WRONLY)  # libtiff and pyarrow print what they meet
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        if isinstance(request, bytes):
            pipe.send(decode_every_way(request))
        else:
            pipe.send(run_trial(*request, Path(folder)))


class Victim:
    """A child process that decodes and reads; a new one stands in for one that has died."""

    def __init__(self, hang_s: float = HANG_S):
        self._hang_s = hang_s
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "tests.fuzz.targets"])
        self._folder = tempfile.mkdtemp(prefix="ganscale-fuzz-")
        self._process: Any = None

    def __enter__(self) -> "Victim":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, request: tuple[str, int] | bytes) -> str:
        """The outcome of a trial; `crashed` with the signal, or `hung`."""
        if self._process is None:
            self._start()
        self._pipe.send(request)
        try:
            if self._pipe.poll(self._hang_s):
                return str(self._pipe.recv())
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self._end()
            return f"crashed: {signal.Signals(-code).name if code < 0 else code}"
        self._end()
        return "hung"

    def _start(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        Path(self._folder).mkdir()
        self._pipe, other = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(other, self._folder))
        self._process.start()
        other.close()
        self._pipe.send(b"")  # answered when everything is imported
        self._pipe.recv()

    def _end(self) -> None:
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._process = None


def campaign(kinds: list[str], seed: int, trials: int, seconds: float) -> dict[str, Counter[str]]:
    """The kinds in turns, each up to so many trials, until the time is over; counted outcomes."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    with Victim() as victim:
        deadline = math.inf
        for number in range(trials):
            for kind in kinds:
                if time.monotonic() > deadline:
                    return counts
                outcome = victim.ask((kind, seed + number))
                what = outcome.split(":")[0]
                counts[kind][what] += 1
                if what in FAULTS:
                    print(f"FAULT {kind}, seed {seed + number}: {outcome}", flush=True)
            if number == 0:  # with what it imports and makes once
                deadline = time.monotonic() + seconds
    return counts


def table(counts: dict[str, Counter[str]]) -> str:
    """The counts as a Markdown table; `-` where silence cannot be judged."""
    lines = [f"| kind | trials | {' | '.join(FAULTS)} |", "|---|" + "---:|" * (1 + len(FAULTS))]
    total: Counter[str] = Counter()
    for kind, found in (*counts.items(), ("all", total)):
        numbers = [f"{found[fault]:,}" for fault in FAULTS]
        if kind in TRIALS and kind not in JUDGED:
            numbers[FAULTS.index("silent")] = "-"
        lines.append(f"| {kind} | {found.total():,} | {' | '.join(numbers)} |")
        total += found
    return "\n".join(lines)


def main() -> int:
    """Run, print the table, and return 1 where a fault was found."""
    parser = argparse.ArgumentParser(description="Attack whatever reads data.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kind", choices=TRIALS, action="append", help="all, unless given")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    counts = campaign(options.kind or list(TRIALS), options.seed, 10**9, 60 * options.minutes)
    print(table(counts))
    return int(any(found[fault] for found in counts.values() for fault in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
