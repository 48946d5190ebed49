"""What an argument of the command line may be; `argparse` turns each complaint into one message."""

from argparse import ArgumentTypeError
from pathlib import Path

MAX_DIGITS = 18


def natural(text: str) -> int:
    """A whole number from 0, in ASCII digits."""
    return _whole(text, 0)


def positive(text: str) -> int:
    """A whole number from 1, in ASCII digits."""
    return _whole(text, 1)


def _whole(text: str, least: int) -> int:
    digits = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    if not digits or int(text) < least:
        raise ArgumentTypeError(f"must be a whole number from {least}, not {_shown(text)}")
    return int(text)


def location(text: str) -> str:
    """A path or an address; an empty one would mean the current folder."""
    if not text or "\0" in text:
        raise ArgumentTypeError(f"must be a path, not {_shown(text)}")
    return text


def path(text: str) -> Path:
    """A path; an empty one would mean the current folder."""
    return Path(location(text))


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}… ({len(text):,} characters)"
