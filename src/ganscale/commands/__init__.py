"""The commands of the program, one file each.

The first line of a command's docstring is its help text. All are imported to build the parser, so
a command imports what it needs when it runs: `--help` is quick.
"""

from argparse import ArgumentParser, Namespace
from typing import Protocol

from ganscale.commands import (
    config,
    doctor,
    evaluate,
    export,
    index,
    inspect,
    pack,
    report,
    sample,
    save,
    stop,
    submit,
    sweep,
    train,
)


class Command(Protocol):
    """What the module of a command offers."""

    __name__: str
    __doc__: str | None

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""

    def run(self, options: Namespace) -> int | None:
        """Do it; returns the exit code, None for 0. Raises `GanscaleError`."""


COMMANDS: tuple[Command, ...] = (
    pack,
    index,
    inspect,
    train,
    stop,
    save,
    submit,
    sweep,
    config,
    sample,
    evaluate,
    export,
    report,
    doctor,
)
