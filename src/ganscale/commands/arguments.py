"""Arguments that several commands share, and the types of all arguments.

`argparse` turns the error that a type raises into one message.
"""

import math
import re
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

MAX_DIGITS = 18
MAX_NUMBERS = 1_000_000
LAST_PORT = 65_535


def natural(text: str) -> int:
    """Read a whole number from 0, in ASCII digits."""
    return _whole(text, 0)


def positive(text: str) -> int:
    """Read a whole number from 1, in ASCII digits."""
    return _whole(text, 1)


def port(text: str) -> int:
    """Read the number of a port, from 1 to 65,535."""
    number = _whole(text, 1)
    if number > LAST_PORT:
        raise ArgumentTypeError(f"must be at most {LAST_PORT}, not {_shown(text)}")
    return number


def resolution(text: str) -> int | tuple[int, int]:
    """Read a side of a square, or HEIGHTxWIDTH, in pixels."""
    from ganscale.config.resolution import read_resolution

    try:
        return read_resolution(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{error}, not {_shown(text)}") from None


def above_zero(text: str) -> float:
    """Read a number above 0."""
    try:
        number = float(text) if text.isascii() and len(text) <= MAX_DIGITS else math.nan
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ArgumentTypeError(f"must be a number above 0, not {_shown(text)}")
    return number


def _whole(text: str, least: int) -> int:
    digits = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    if not digits or int(text) < least:
        raise ArgumentTypeError(f"must be a whole number from {least}, not {_shown(text)}")
    return int(text)


def numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers and ranges of them, such as `3,7,10-12`, in the order given."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        ends = (first, last) if "-" in part else (first, first)
        if not all(end.isascii() and end.isdecimal() and len(end) <= MAX_DIGITS for end in ends):
            raise ArgumentTypeError(
                f"must be whole numbers and ranges such as 3,7,10-12, not {_shown(text)}"
            )
        start, stop = int(ends[0]), int(ends[1]) + 1
        if stop <= start or len(found) + stop - start > MAX_NUMBERS:
            raise ArgumentTypeError(
                f"the range {_shown(part)} must go up, and all numbers together be at most "
                f"{MAX_NUMBERS:,}"
            )
        found += range(start, stop)
    return tuple(found)


def location(text: str) -> str:
    """Read a path or an address; an empty one would mean the current folder."""
    if not text or "\0" in text:
        raise ArgumentTypeError(f"must be a path, not {_shown(text)}")
    return text


def path(text: str) -> Path:
    """Read a path; an empty one would mean the current folder."""
    return Path(location(text))


def license_name(text: str) -> str:
    """Read a licence as the Hugging Face Hub abbreviates it, in small letters."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,39}", text.lower()):
        raise ArgumentTypeError(
            f"must be an identifier such as mit, cc-by-4.0 or other, not {_shown(text)}"
        )
    return text.lower()


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}… ({len(text):,} characters)"


def add_run(parser: ArgumentParser) -> None:
    """Declare the run folder."""
    parser.add_argument("run", type=path, help="run folder")


def add_checkpoint(parser: ArgumentParser) -> None:
    """Declare which checkpoint of the run is meant."""
    parser.add_argument("--checkpoint", default="latest", help="latest, best, or a step's name")


def add_weights(parser: ArgumentParser) -> None:
    """Declare which of the generator's weights are meant."""
    parser.add_argument("--weights", choices=("ema", "generator"), default="ema")


def add_class(parser: ArgumentParser) -> None:
    """Declare the class that a conditional generator makes."""
    parser.add_argument("--class", type=natural, dest="label", help="only this one, counted from 0")


def add_license(parser: ArgumentParser) -> None:
    """Declare the licence of the weights, which only their owner can choose."""
    parser.add_argument(
        "--license",
        type=license_name,
        help="of the weights, such as mit or cc-by-4.0, for the model card (default: none stated)",
    )


def add_trust_code(parser: ArgumentParser) -> None:
    """Declare the option that allows a stranger's run to run its own code."""
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help="run the code that the run names, although you did not train it here",
    )


def add_overrides(parser: ArgumentParser, meaning: str | None = None) -> None:
    """Declare the `key=value` arguments that override an experiment's values."""
    # Without a default, argparse names it among the arguments that are required.
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=meaning)
