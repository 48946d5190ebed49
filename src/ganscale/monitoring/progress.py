"""What the person at the terminal sees: bars on a terminal, lines in a log file."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ganscale.terminal import printable

SAY_EVERY_S = 30.0  # between log lines of a phase, where there is no terminal

T = TypeVar("T")

log = logging.getLogger("ganscale")


def set_up_logging(rank: int) -> None:
    """Log lines to standard error: rank 0 all, other ranks only what is wrong."""
    log.handlers.clear()
    log.propagate = False
    log.setLevel(logging.INFO if rank == 0 else logging.ERROR)
    if sys.stderr.isatty():
        console = Console(stderr=True)
        handler: logging.Handler = RichHandler(console=console, show_path=False, show_level=False)
        handler.setFormatter(_Printable("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Printable("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)


class _Printable(logging.Formatter):
    """Control characters written out: a set's or a run's maker has named what is logged."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return printable(super().format(record))


class _Bars(Progress):
    """A line a phase: what it is, how far, how long still. Below them the last numbers.

    The numbers have a line of their own, which is cut off where the terminal is narrow; the bar
    takes what the rest of its line leaves.
    """

    def __init__(self) -> None:
        self.numbers = ""
        super().__init__(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            expand=True,
        )

    def get_renderables(self) -> Iterator[RenderableType]:
        """What is drawn."""
        yield self.make_tasks_table(self.tasks)
        if self.numbers:
            yield Text(self.numbers, no_wrap=True, overflow="ellipsis")


_bars: _Bars | None = None  # a terminal has one


@contextmanager
def _on_terminal() -> Iterator[_Bars]:
    """The bars that are on the terminal already, or new ones."""
    global _bars
    if _bars is not None:
        yield _bars
        return
    _bars = _Bars()
    try:
        with _bars:
            yield _bars
    finally:
        _bars = None


class TrainingProgress(AbstractContextManager["TrainingProgress"]):
    """Shows how far a run is and its last numbers."""

    def __init__(self, step: int, steps: int, shown: bool):
        self._step = step
        self._steps = steps
        self._shown = shown
        self._terminal = _on_terminal() if shown and sys.stderr.isatty() else None
        self._bars: _Bars | None = None

    def __enter__(self) -> "TrainingProgress":
        if self._terminal is not None:
            self._bars = self._terminal.__enter__()
            self._task = self._bars.add_task("training", total=self._steps, completed=self._step)
        return self

    def __exit__(self, *error: object) -> None:
        if self._terminal is not None:
            self._terminal.__exit__(None, None, None)

    def advance(self, step: int) -> None:
        """`step` is done."""
        if self._bars is not None:
            self._bars.update(self._task, completed=step)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Show the numbers of `step`."""
        if not self._shown:
            return
        parts = [
            f"{values['images/s']:,.0f} images/s",
            f"loss D {values['loss/discriminator']:.3f} G {values['loss/generator']:.3f}",
            f"D(x) {values['D(x)']:.2f} D(G(z)) {values['D(G(z))']:.2f}",
        ]
        if self._bars is not None:
            self._bars.numbers = " · ".join(parts)
            self.advance(step)
        else:
            log.info("step %s of %s · %s", f"{step:,}", f"{self._steps:,}", " · ".join(parts))


def tracked(
    items: Iterable[T], total: int, phase: str, size: Callable[[T], int] = lambda item: 1
) -> Iterator[T]:
    """Yield the items, and show how much of `total` is done: each counts for its `size`.

    A bar on a terminal, else a log line now and then, of a phase that lasts. Only rank 0 shows.
    """
    if not log.isEnabledFor(logging.INFO):
        yield from items
    elif sys.stderr.isatty():
        with _on_terminal() as bars:
            task = bars.add_task(phase, total=total)
            try:
                for item in items:
                    yield item
                    bars.advance(task, size(item))
            finally:
                bars.remove_task(task)
    else:
        done, said = 0, time.monotonic()
        for item in items:
            yield item
            done += size(item)
            if time.monotonic() - said >= SAY_EVERY_S:
                said = time.monotonic()
                log.info("%s: %s of %s", phase, f"{done:,}", f"{total:,}")


class PhaseTimer:
    """Seconds spent in each phase since it was last read."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def restart(self) -> None:
        """Forget the time since the last lap."""
        self._since = time.perf_counter()

    def lap(self, phase: str) -> None:
        """The time since the last lap was spent in `phase`."""
        now = time.perf_counter()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._since
        self._since = now

    def read(self) -> dict[str, float]:
        """Seconds by phase; starts again from zero."""
        seconds, self._seconds = self._seconds, {}
        return seconds
