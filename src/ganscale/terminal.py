"""Standard output and standard error that never crash a command.

They may be closed, the disk behind them may be full, or their encoding may lack a character such
as `×`.
"""

import codecs
import io
import os
import sys

SPELT = {"×": "x", "…": "...", "·": "-", "–": "-", "—": "-", "→": "->", "√": "sqrt"}


def prepare_streams() -> None:
    """Make standard output and error printable: spell out characters that the encoding lacks."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file to be opened would receive everything printed
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    codecs.register_error("ganscale.spell", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ganscale.spell")


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeEncodeError):
        letter = SPELT.get(error.object[error.start])
        if letter is not None:
            return letter, error.start + 1
    return codecs.backslashreplace_errors(error)


def printable(text: str) -> str:
    """Return the text with control characters escaped.

    Text from a stranger's file may contain the escape sequences of a terminal.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def print_text(text: str) -> None:
    """Print a text and flush it; raise `OSError` if standard output cannot take it."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        abandon_output()
        error.filename = "standard output"
        raise


def flush_output() -> None:
    """Flush standard output; raise `OSError` if it cannot take what was printed."""
    print_text("")


def abandon_output() -> None:
    """Discard everything still unprinted, so that the interpreter can exit without an error."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # no real stream
        return
