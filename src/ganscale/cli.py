"""The program `ganscale`: its commands, its exit codes, and what it says of an error."""

import argparse
import atexit
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from ganscale import __version__
from ganscale.commands import load_commands, sweep, train
from ganscale.errors import GanscaleError
from ganscale.system_errors import describe_error, find_system_error
from ganscale.terminal import abandon_output, flush_output, prepare_streams, printable

LAST_WORD_S = 15
DESCRIPTION = "Train GANs from one laptop to many nodes."
EPILOG = """\
from a folder of images to generated ones:
  ganscale configure photos/
  ganscale train photos.yaml                        # again: resumes
  ganscale sample runs/photos --grid photos.png
"""


def run() -> NoReturn:
    """Run `main`, then end the process with its exit code.

    Where PyTorch was used, the interpreter is not torn down after the exit handlers have run: its
    threads may still be running, and one that is then woken aborts the process with SIGABRT.
    """
    codes: list[int] = []
    atexit.register(_leave, codes)  # handlers run in reverse order: before any other is known
    codes.append(main())
    sys.exit(codes[0])


def _leave(codes: list[int]) -> None:
    if codes and "torch" in sys.modules:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(codes[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    prepare_streams()
    try:
        options = _parser().parse_args(arguments)
        code = int(options.command.run(options) or 0)
        flush_output()
        return code
    except SystemExit:  # argparse, which has printed help or what is wrong
        with suppress(OSError):
            flush_output()
        raise
    except GanscaleError as error:
        _complain(str(error), error.every_rank)
        if error.every_rank and os.environ.get("RANK", "0") != "0":
            # A launcher ends all ranks with the first that ends, and rank 0 has to say why.
            time.sleep(LAST_WORD_S)
        return error.exit_code
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":
            resuming = options.command in (train, sweep) and not getattr(options, "new", False)
            more = ": the same command resumes from the last checkpoint" if resuming else ""
            print(f"ganscale: interrupted{more}", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        abandon_output()
        return 1
    except Exception as error:
        cause = find_system_error(error)
        if cause is None:
            raise
        try:
            flush_output()
        except OSError as of_output:  # printing has failed, not a file
            cause = of_output
        _complain(describe_error(cause))
        return 1


def _complain(message: str, every_rank: bool = False) -> None:
    rank = os.environ.get("RANK", "0")
    who = "ganscale" if rank == "0" else f"ganscale (rank {rank})"
    if rank == "0" or not every_rank:
        with suppress(OSError):
            print(f"{who}: error: {printable(message)}", file=sys.stderr, flush=True)


class _CommandParser(argparse.ArgumentParser):
    """A command's arguments, in any order: argparse alone takes no override after an option."""

    _is_intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as `parse_known_intermixed_args` does, which itself calls this method."""
        if self._is_intermixing:
            return super().parse_known_args(args, namespace)
        self._is_intermixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_intermixing = False


class _Program(argparse.ArgumentParser):
    """The program's arguments, with a word for those who look for a command to resume with."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and exit."""
        if message.startswith("argument COMMAND: invalid choice: 'resume'"):
            message = "there is no command to resume with: `ganscale train FILE` resumes its run"
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Program(
        "ganscale",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_CommandParser)
    for name, command in load_commands().items():
        text = (command.__doc__ or "").partition("\n")[0].rstrip(".")
        sub = commands.add_parser(name, help=text, description=text)
        command.add_arguments(sub)
        sub.set_defaults(command=command, program=parser)
    return parser
