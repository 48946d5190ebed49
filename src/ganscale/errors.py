"""The error that a user is meant to read."""


class GanscaleError(Exception):
    """What is wrong, where, and what to do about it, in one message.

    The command line prints it without a traceback and ends with a non-zero exit code. Anything
    else that escapes is a fault of this program and keeps its traceback. `every_rank` says that
    all processes of a run meet it alike, so that rank 0 alone need speak. `temporary` says that
    the same command, started again, may well succeed; its exit code is then 75, else 1.
    """

    TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h

    def __init__(self, message: str, *, every_rank: bool = False, temporary: bool = False):
        super().__init__(message)
        self.every_rank = every_rank
        self.exit_code = self.TEMPORARY if temporary else 1
