"""Standard output and error that fail no command: closed, full, or of a terminal without `×`."""

import codecs
import io
import os
import sys

SPELT = {"×": "x", "…": "...", "·": "-", "–": "-", "—": "-", "→": "->", "√": "sqrt"}


def prepare_streams() -> None:
    """Let everything be printed: what a terminal's encoding lacks is spelt in its letters."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file opened would take its place, and be printed into
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
    """The text with control characters written out: a stranger's file may hold a terminal's."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def print_text(text: str) -> None:
    """Print a long text at once; raises `OSError` where standard output cannot take it."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        abandon_output()
        error.filename = "standard output"
        raise


def flush_output() -> None:
    """Write out what was printed; raises `OSError` where standard output cannot take it."""
    print_text("")


def abandon_output() -> None:
    """Let what is still to be printed go nowhere, so that the interpreter's end does not fail."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # no real stream
        return
