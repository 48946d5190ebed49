"""Progress bars on a terminal, and log lines that do not disturb them.

A process without a terminal never imports this file, nor the library that draws.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text


class Bars(Progress):
    """One line per phase with its name, progress and remaining time, and the last numbers below.

    The numbers have their own line, which is cut off on a narrow terminal; each bar fills the rest
    of its line.
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

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the parts that rich draws."""
        yield self.make_tasks_table(self.tasks)
        if self.numbers:
            yield Text(self.numbers, no_wrap=True, overflow="ellipsis")


_bars: Bars | None = None  # a terminal can show only one


@contextmanager
def on_terminal() -> Iterator[Bars]:
    """Yield the bars that are already on the terminal, or new ones."""
    global _bars
    if _bars is not None:
        yield _bars
        return
    _bars = Bars()
    try:
        with _bars:
            yield _bars
    finally:
        _bars = None


def terminal_handler() -> logging.Handler:
    """Return a handler that writes log lines to standard error, above the bars."""
    return RichHandler(console=Console(stderr=True), show_path=False, show_level=False)
