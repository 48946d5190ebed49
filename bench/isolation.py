"""Runs a function in a process of its own, whose crash, memory and time do not concern the others.

The process is a fork of this one, so that nothing is imported again. This one must therefore not
use CUDA, nor start threads.
"""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LAST_LINES = 12  # of what a process has printed, if it fails


def run_apart(function: Callable[[], dict[str, Any]], limit_s: float, log: Path) -> dict[str, Any]:
    """Return what the function returns, with `status` and the `seconds` that it took.

    The status is `ok`; `failed` with a `reason` if it raised, or its process ended; or `too slow`
    after the limit. What the process prints goes into `log`.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(function, sender, log))
    start = time.perf_counter()
    process.start()
    sender.close()
    outcome: dict[str, Any]
    try:
        if receiver.poll(limit_s):
            outcome = receiver.recv()
        else:
            outcome = {"status": "too slow", "reason": f"more than {limit_s:.0f} s"}
    except EOFError:
        process.join()
        lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        reason = f"the process ended with {process.exitcode}"
        outcome = {"status": "failed", "reason": reason, "printed": lines}
    finally:
        # Whatever it started, such as workers, is of its session.
        if process.is_alive():
            os.killpg(process.ident or 0, signal.SIGKILL)
        process.join()
    return outcome | {"seconds": round(time.perf_counter() - start, 1)}


def _run(function: Callable[[], dict[str, Any]], sender: Connection, log: Path) -> None:
    os.setsid()
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        outcome = {"status": "ok", **function()}
    except BaseException as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        outcome = {"status": "failed", "reason": reason, "traceback": traceback.format_exc()}
    sender.send(outcome)
