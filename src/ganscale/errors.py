"""The error type whose message is written for the user."""


class GanscaleError(Exception):
    """An error whose message says what is wrong, where, and what to do about it.

    The command line prints the message without a traceback and exits with a non-zero code. Any
    other exception that escapes is a bug in this program and keeps its traceback.

    `every_rank` means that all processes of a run raise the same error, so only rank 0 needs to
    print it. `temporary` means that the same command may succeed if it is started again; the exit
    code is then 75, otherwise 1.
    """

    TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h

    def __init__(self, message: str, *, every_rank: bool = False, temporary: bool = False):
        super().__init__(message)
        self.every_rank = every_rank
        self.exit_code = self.TEMPORARY if temporary else 1


def in_one_line(error: BaseException) -> str:
    """Return what an error says, in one line; the name of its class if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
