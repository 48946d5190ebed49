"""What a terminal of eighty columns shows, and what a log file gets."""

import io
import logging
import os
import pty
import re
import subprocess
import sys
import textwrap

import pytest

from ganscale.monitoring import progress
from ganscale.monitoring.progress import counted, set_up_logging, tracked
from tests.system.processes import environment

NUMBERS = {
    "images_per_second": 12345.0,
    "loss_discriminator": 1.234,
    "loss_generator": 0.789,
    "d_real": 0.5,
    "d_fake": 0.4,
}


def shown_on_terminal(code: str, columns: int) -> str:
    """What a Python program writes to a terminal that is its standard error."""
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stderr=theirs,
        env=environment(COLUMNS=str(columns), TERM="xterm"),
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    assert program.wait(60) == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_step_and_remaining_time_stay_where_the_terminal_is_narrow(columns: int) -> None:
    shown = shown_on_terminal(
        f"""
        import time
        from ganscale.monitoring.progress import TrainingProgress, set_up_logging, tracked
        set_up_logging(0)
        with TrainingProgress(0, 20000, True) as training:
            for step in range(1230, 1235):
                time.sleep(0.05)
                training.numbers(step, {NUMBERS})
            for _ in tracked(range(3), 3, "scoring generated images"):
                time.sleep(0.15)
        """,
        columns,
    )
    lines = shown.splitlines()
    assert any(re.match(r"training .*1,234 of 20,000 +\d:\d\d:\d\d", line) for line in lines)
    assert any(re.match(r"scoring generated images .*1 of 3 ", line) for line in lines)
    numbers = [line for line in lines if line.startswith("12,345 images/s · loss D 1.234")]
    assert numbers
    assert all("D(G(z)) 0.40" in line for line in numbers) or columns < 80
    assert max(map(len, lines)) <= columns


def test_a_log_file_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(rank=0)
    items = [[1, 2], [3, 4], [5]]
    assert list(tracked(items, 5, "scoring", len)) == items
    assert capsys.readouterr().err == ""  # it did not last
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    assert list(tracked(items, 5, "scoring", len)) == items
    lines = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["scoring: 2 of 5", "scoring: 4 of 5", "scoring: 5 of 5"]
    set_up_logging(rank=1)
    assert list(tracked(items, 5, "scoring", len)) == items
    assert capsys.readouterr().err == ""
    logging.getLogger("ganscale").handlers.clear()


def test_a_log_line_says_how_long_the_run_still_takes(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(rank=0)
    with progress.TrainingProgress(0, 200, shown=True) as training:
        training.numbers(100, NUMBERS, 7_500.0)
        training.numbers(200, NUMBERS, 0.0)
    first, last = capsys.readouterr().err.splitlines()
    assert re.search(r"step 100 of 200 · .* · 2 h 05 min left \(to .*\d\d:\d\d\)$", first)
    assert "left" not in last
    logging.getLogger("ganscale").handlers.clear()


def test_a_log_line_holds_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(rank=0)
    logging.getLogger("ganscale").info("%s images", "\x1b]0;title\x07\ud800")
    assert capsys.readouterr().err.endswith(r" \x1b]0;title\x07\ud800 images" + "\n")
    logging.getLogger("ganscale").handlers.clear()


def test_a_log_line_on_a_terminal_holds_no_control_characters() -> None:
    shown = shown_on_terminal(
        r"""
        import logging
        from ganscale.monitoring.progress import set_up_logging
        set_up_logging(0)
        logging.getLogger("ganscale").info("%s images", "\x1b]0;title\x07")
        """,
        80,
    )
    assert r"\x1b]0;title\x07 images" in shown


def test_a_phase_that_is_counted_elsewhere_has_a_bar_from_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    logging.getLogger("ganscale").setLevel(logging.INFO)
    with counted("packing photos") as show:
        show(3, 6000)
    assert "packing photos" in terminal.getvalue()
