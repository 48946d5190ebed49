"""The error that a user is meant to read."""

import re

# Control characters but for the end of a line and tab; lone surrogates, which stand for bytes that
# are not UTF-8; and what turns the direction of writing.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey: names may be a stranger's."""
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class GanscaleError(Exception):
    """What is wrong, where, and what to do about it, in one message.

    The command line prints it without a traceback and ends with a non-zero exit code. Anything
    else that escapes is a fault of this program and keeps its traceback. `every_rank` says that
    all processes of a run meet it alike, so that rank 0 alone need speak. `temporary` says that
    the same command, started again, may well succeed; its exit code is then 75, else 1.
    """

    TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h

    def __init__(self, message: str, *, every_rank: bool = False, temporary: bool = False):
        super().__init__(printable(message))
        self.every_rank = every_rank
        self.exit_code = self.TEMPORARY if temporary else 1
