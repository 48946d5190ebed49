"""The bar and the grid of samples in a notebook."""

import logging
from pathlib import Path
from typing import Any

import pytest

import ganscale
from ganscale.library import notebook
from tests.conftest import tiny


class Cell:
    """Stands for what is shown below a cell: its outputs, each in all its states."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.outputs: list[list[Any]] = []
        monkeypatch.setattr("IPython.display.display", self.display)
        monkeypatch.setattr(notebook, "in_notebook", lambda: True)
        monkeypatch.setattr(notebook, "SHOW_EVERY_S", 0.0)
        monkeypatch.setattr("ganscale.training.recorder.draw_gallery", lambda *_: [])

    def display(self, content: Any, display_id: bool) -> Any:
        states = [content]
        self.outputs.append(states)
        return type("Handle", (), {"update": staticmethod(states.append)})


def test_one_bar_and_one_picture_are_brought_up_to_date(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cell = Cell(monkeypatch)
    experiment = tiny(digits, tmp_path, "monitoring.pictures_every=2", "monitoring.log_every=3")
    run = ganscale.train(experiment, steps=4)
    assert capsys.readouterr() == ("", "")  # no line of the log
    pictures, bars = cell.outputs
    assert [picture.data for picture in pictures] == [path.read_bytes() for path in run.pictures]
    assert len(pictures) == 3
    texts = [repr(bar) for bar in bars]
    assert len(texts) == 6  # four steps, and two logs
    assert texts[0] == "step 1 of 4"
    assert texts[-1].startswith("step 4 of 4 · ")
    assert " steps/s · 0:00 left · loss D " in texts[-1]
    last = [line for line in run.metrics if "loss_generator" in line][-1]
    assert texts[-1].endswith(f"G {last['loss_generator']:.3f}")
    assert '<progress value="4" max="4"' in bars[-1]._repr_html_()


def test_warnings_are_still_shown(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Cell(monkeypatch)

    class Warning(ganscale.Callback):
        def on_step(self, event: ganscale.Event) -> None:
            logging.getLogger("ganscale").warning("look out")

    ganscale.train(tiny(digits, tmp_path), steps=1, callbacks=[Warning()])
    assert capsys.readouterr().err == "look out\n"
    assert logging.getLogger("ganscale").handlers == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (725, "12:05"), (7265, "2:01:05")]
)
def test_durations(seconds: float, text: str) -> None:
    assert notebook._duration(seconds) == text
