"""Packing that is killed goes on and ends with the same bytes."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.data.packing.packed import checksums
from tests.system.processes import command, environment, run

pytestmark = pytest.mark.system


def processes_of_session(number: int) -> list[psutil.Process]:
    """What a process that led a session left behind."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if os.getsid(process.pid) == number:
                found.append(process)
    return found


def test_killed_packing_keeps_what_is_finished(tmp_path: Path) -> None:
    def line(folder: str) -> list[str]:
        sizes = ("--size", "96", "--samples-per-shard", "100")
        return command("pack", "digits", folder, "--processes", "2", *sizes)

    assert run(line("whole"), tmp_path).returncode == 0
    process = subprocess.Popen(
        line("killed"), cwd=tmp_path, env=environment(), start_new_session=True
    )
    killed = tmp_path / "killed"
    deadline = time.monotonic() + 60
    while len(list(killed.glob("*.index.npy"))) < 2:
        assert process.poll() is None, "packing ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {p: p.stat().st_mtime_ns for p in killed.glob("*.index.npy")}
    assert not (killed / "manifest.json").exists()
    while session := processes_of_session(process.pid):
        assert time.monotonic() < deadline, f"still there: {session}"
        time.sleep(0.1)
    assert run(line("killed"), tmp_path).returncode == 0
    ours, theirs = checksums(killed), checksums(tmp_path / "whole")
    assert {k: v for k, v in ours.items() if not k.endswith(".partial")} == theirs
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in finished.items())
