"""A case that fails, crashes or hangs is said to have, and ends no other."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

LIMIT_S = 20.0


def fail() -> dict[str, Any]:
    raise MemoryError("out of\nmemory")


def crash() -> dict[str, Any]:
    os.write(1, b"before the end\n")
    os._exit(3)


def test_figures_come_back(tmp_path: Path) -> None:
    from isolation import run_apart

    outcome = run_apart(lambda: {"figure": 1.5}, LIMIT_S, tmp_path / "log")
    assert outcome.pop("seconds") < LIMIT_S
    assert outcome == {"status": "ok", "figure": 1.5}


@pytest.mark.parametrize(
    ("function", "reason"),
    [(fail, "MemoryError: out of memory"), (crash, "the process ended with 3")],
)
def test_a_failure_has_a_reason(
    tmp_path: Path, function: Callable[[], dict[str, Any]], reason: str
) -> None:
    from isolation import run_apart

    outcome = run_apart(function, LIMIT_S, tmp_path / "log")
    assert (outcome["status"], outcome["reason"]) == ("failed", reason)
    if function is crash:
        assert outcome["printed"] == ["before the end"]


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    from isolation import run_apart

    def hang() -> dict[str, Any]:
        child = subprocess.Popen(["sleep", "600"])
        (tmp_path / "child").write_text(str(child.pid))
        time.sleep(600)
        return {}

    outcome = run_apart(hang, 1.0, tmp_path / "log")
    assert outcome["status"] == "too slow"
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + LIMIT_S
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
