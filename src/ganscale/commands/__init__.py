"""The commands of the program, one file each: adding a file adds a command.

The file's name is the command's name, and the first line of its docstring is the help text. All
files are imported to build the parser, so a command imports what it needs when it runs: `--help` is
quick.
"""

import importlib
import pkgutil
from argparse import ArgumentParser, Namespace
from typing import Protocol, cast

NOT_COMMANDS = {"arguments"}
IN_ORDER = (
    "init",
    "configure",
    "pack",
    "index",
    "inspect",
    "train",
    "stop",
    "save",
    "runs",
    "watch",
    "submit",
    "sync",
    "sweep",
    "config",
    "plan",
    "profile",
    "sample",
    "explore",
    "project",
    "evaluate",
    "export",
    "push",
    "report",
    "doctor",
    "completion",
)
"""The order in which `ganscale --help` lists commands; any other one follows."""


class Command(Protocol):
    """What the module of a command offers."""

    __name__: str
    __doc__: str | None

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""

    def run(self, options: Namespace) -> int | None:
        """Do it; returns the exit code, None for 0. Raises `GanscaleError`."""


def load_commands() -> dict[str, Command]:
    """Return the module of each command by its name, in the order of `--help`."""
    found = {module.name for module in pkgutil.iter_modules(__path__)} - NOT_COMMANDS
    names = [name for name in IN_ORDER if name in found] + sorted(found.difference(IN_ORDER))
    return {name: cast(Command, importlib.import_module(f"{__name__}.{name}")) for name in names}
