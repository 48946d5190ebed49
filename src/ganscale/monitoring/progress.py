"""What the person at the terminal sees: a bar on a terminal, lines in a log file."""

import logging
import sys
import time
from contextlib import AbstractContextManager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("ganscale")


def set_up_logging(rank: int) -> None:
    """Log lines to standard error: rank 0 all, other ranks only what is wrong."""
    log.handlers.clear()
    log.propagate = False
    log.setLevel(logging.INFO if rank == 0 else logging.ERROR)
    if sys.stderr.isatty():
        console = Console(stderr=True)
        handler: logging.Handler = RichHandler(console=console, show_path=False, show_level=False)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)


class TrainingProgress(AbstractContextManager["TrainingProgress"]):
    """Shows how far a run is and its last numbers."""

    def __init__(self, step: int, steps: int, shown: bool):
        self._bar = shown and sys.stderr.isatty()
        self._shown = shown
        self._steps = steps
        self._progress = Progress(
            TextColumn("[bold]training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=Console(stderr=True),
            disable=not self._bar,
        )
        self._task = self._progress.add_task("", total=steps, completed=step, numbers="")

    def __enter__(self) -> "TrainingProgress":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def advance(self, step: int) -> None:
        """`step` is done."""
        if self._bar:
            self._progress.update(self._task, completed=step)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Show the numbers of `step`."""
        if not self._shown:
            return
        parts = [
            f"{values['images/s']:,.0f} images/s",
            f"loss D {values['loss/discriminator']:.3f} G {values['loss/generator']:.3f}",
            f"D(x) {values['D(x)']:.2f} D(G(z)) {values['D(G(z))']:.2f}",
        ]
        if self._bar:
            self._progress.update(self._task, completed=step, numbers=" · ".join(parts))
        else:
            log.info("step %s of %s · %s", f"{step:,}", f"{self._steps:,}", " · ".join(parts))


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
