"""Progress display: bars on a terminal, and log lines everywhere else."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from ganscale.monitoring.time_left import describe_time_left
from ganscale.terminal import printable

if TYPE_CHECKING:
    from ganscale.monitoring.bars import Bars

LOG_EVERY_S = 30.0  # between the log lines of a phase, if there is no terminal

T = TypeVar("T")

log = logging.getLogger("ganscale")


def set_up_logging(rank: int) -> None:
    """Send log lines to standard error: all from rank 0, only errors from the other ranks."""
    log.handlers.clear()
    log.propagate = False
    log.setLevel(logging.INFO if rank == 0 else logging.ERROR)
    if sys.stderr.isatty():
        from ganscale.monitoring.bars import terminal_handler

        handler = terminal_handler()
        handler.setFormatter(_Printable("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Printable("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)


class _Printable(logging.Formatter):
    """Escapes control characters, since log lines may contain names chosen by strangers."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the log line without control characters."""
        return printable(super().format(record))


class TrainingProgress(AbstractContextManager["TrainingProgress"]):
    """Shows how far a run has come, and its last numbers."""

    def __init__(self, step: int, steps: int, shown: bool):
        self._step = step
        self._steps = steps
        self._shown = shown
        self._terminal: AbstractContextManager[Bars] | None = None
        self._bars: Bars | None = None
        if shown and sys.stderr.isatty():
            from ganscale.monitoring.bars import on_terminal

            self._terminal = on_terminal()

    def __enter__(self) -> "TrainingProgress":
        if self._terminal is not None:
            self._bars = self._terminal.__enter__()
            self._task = self._bars.add_task("training", total=self._steps, completed=self._step)
        return self

    def __exit__(self, *error: object) -> None:
        if self._terminal is not None:
            self._terminal.__exit__(None, None, None)

    def advance(self, step: int) -> None:
        """Show that `step` is done."""
        if self._bars is not None:
            self._bars.update(self._task, completed=step)

    def numbers(
        self, step: int, values: dict[str, float], seconds_left: float | None = None
    ) -> None:
        """Show the numbers of `step`; a log line also says how long the run still takes."""
        if not self._shown:
            return
        parts = [
            f"{values['images_per_second']:,.0f} images/s",
            f"loss D {values['loss_discriminator']:.3f} G {values['loss_generator']:.3f}",
            f"D(x) {values['d_real']:.2f} D(G(z)) {values['d_fake']:.2f}",
        ]
        if self._bars is not None:
            self._bars.numbers = " · ".join(parts)
            self.advance(step)
        else:
            if seconds_left is not None and step < self._steps:
                parts.append(describe_time_left(seconds_left, datetime.now()))
            log.info("step %s of %s · %s", f"{step:,}", f"{self._steps:,}", " · ".join(parts))


def tracked(
    items: Iterable[T], total: int, phase: str, size: Callable[[T], int] = lambda item: 1
) -> Iterator[T]:
    """Yield the items and show how much of `total` is done; each item counts for its `size`.

    A terminal shows a bar; otherwise a long phase logs a line now and then. Only rank 0 shows
    anything.
    """
    if not log.isEnabledFor(logging.INFO):
        yield from items
    elif sys.stderr.isatty():
        from ganscale.monitoring.bars import on_terminal

        with on_terminal() as bars:
            task = bars.add_task(phase, total=total)
            try:
                for item in items:
                    yield item
                    bars.advance(task, size(item))
            finally:
                bars.remove_task(task)
    else:
        done, logged = 0, time.monotonic()
        for item in items:
            yield item
            done += size(item)
            if time.monotonic() - logged >= LOG_EVERY_S:
                logged = time.monotonic()
                log.info("%s: %s of %s", phase, f"{done:,}", f"{total:,}")


@contextmanager
def counted(phase: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows how much of a phase is done: `show(done, total)`.

    It shows what `tracked` does, for work that is counted elsewhere.
    """
    with ExitStack() as stack:
        bars: Bars | None = None
        if log.isEnabledFor(logging.INFO) and sys.stderr.isatty():
            from ganscale.monitoring.bars import on_terminal

            bars = stack.enter_context(on_terminal())
            task = bars.add_task(phase, total=0)  # until `show` says how much there is
            stack.callback(bars.remove_task, task)
        logged = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal logged
            if bars is not None:
                bars.update(task, completed=done, total=total)
            elif time.monotonic() - logged >= LOG_EVERY_S:
                logged = time.monotonic()
                log.info("%s: %s of %s", phase, f"{done:,}", f"{total:,}")

        yield show


class PhaseTimer:
    """Measures the seconds spent in each phase since it was last read."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def restart(self) -> None:
        """Discard the time since the last lap."""
        self._since = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Count the time since the last lap as spent in `phase`."""
        now = time.perf_counter()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._since
        self._since = now

    def read(self) -> dict[str, float]:
        """Return the seconds per phase and start again from zero."""
        seconds, self._seconds = self._seconds, {}
        return seconds
