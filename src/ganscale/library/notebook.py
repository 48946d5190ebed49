"""What a run shows in a notebook: a bar with its speed and losses, and the grid of samples."""

from __future__ import annotations

import html
import importlib
import io
import logging
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from ganscale.library.callbacks import Callback, Event, LogEvent, PictureEvent

SHOW_EVERY_S = 0.2  # each update is a message to the browser
LEAST_WIDTH = 320  # pixels of a picture

log = logging.getLogger("ganscale")


def in_notebook() -> bool:
    """Return whether this process is a notebook's kernel; IPython need not be installed."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def show_only_warnings() -> None:
    """Keep the run's log lines out of the notebook, where the bar says the same, but not warnings.

    A program that has given the logger `ganscale` handlers of its own keeps them.
    """
    if not log.handlers:
        log.addHandler(logging.StreamHandler(sys.stderr))
        log.setLevel(logging.WARNING)
        log.propagate = False


def hush_tqdm() -> None:
    """Import tqdm, which says when it is first imported that it could draw other bars."""
    with warnings.catch_warnings(), suppress(ImportError):
        warnings.simplefilter("ignore")
        importlib.import_module("tqdm.auto")


class Bar:
    """A line of text behind a bar, as a notebook shows it."""

    def __init__(self, step: int, steps: int, text: str):
        self._step = step
        self._steps = steps
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        style = "width: 16em; vertical-align: middle; margin-right: 1em"
        bar = f'<progress value="{self._step}" max="{self._steps}" style="{style}"></progress>'
        return f"<div>{bar}<code>{html.escape(self._text)}</code></div>"


class NotebookProgress(Callback):
    """Shows one bar and one grid of samples below the cell, and brings both up to date."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._picture: Any = None
        self._losses = ""
        self._first: tuple[int, float] | None = None
        self._shown = 0.0

    def on_step(self, event: Event) -> None:
        """Show how far the run is, now and then."""
        now = time.monotonic()
        if self._first is None:
            self._first = event.step, now
        if now - self._shown >= SHOW_EVERY_S or event.step == event.steps:
            self._show(event, now)

    def on_log(self, event: LogEvent) -> None:
        """Show the losses."""
        losses = (event.numbers.get(f"loss_{player}") for player in ("discriminator", "generator"))
        shown = [
            f"{name} {loss:.3f}"
            for name, loss in zip("DG", losses, strict=True)
            if loss is not None
        ]
        self._losses = f" · loss {' '.join(shown)}" if shown else ""
        self._show(event, time.monotonic())

    def on_picture(self, event: PictureEvent) -> None:
        """Show the grid in the place of the one before."""
        from IPython.display import Image as Shown

        self._picture = _display(Shown(data=_enlarged(event.path)), self._picture)

    def _show(self, event: Event, now: float) -> None:
        assert self._first is not None, "a step comes before its numbers"
        self._shown = now
        step, since = self._first
        text = f"step {event.step:,} of {event.steps:,}"
        if event.step > step:
            rate = (event.step - step) / max(now - since, 1e-9)
            left = (event.steps - event.step) / rate
            text += f" · {rate:,.1f} steps/s · {_duration(left)} left"
        self._bar = _display(Bar(event.step, event.steps, text + self._losses), self._bar)


def _enlarged(path: Path) -> bytes:
    """Return a picture as PNG, each pixel as a square of several if it is a small one."""
    with Image.open(path) as picture:
        times = LEAST_WIDTH // picture.width
        if times < 2:
            return path.read_bytes()
        size = (times * picture.width, times * picture.height)
        content = io.BytesIO()
        picture.resize(size, Image.Resampling.NEAREST).save(content, "PNG")
        return content.getvalue()


def _display(content: Any, handle: Any) -> Any:
    """Show the content below the cell, or in place of what the handle shows; return its handle."""
    from IPython.display import display

    if handle is None:
        return display(content, display_id=True)
    handle.update(content)
    return handle


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
