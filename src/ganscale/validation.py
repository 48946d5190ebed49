"""The one mistake that a message names, of those that pydantic finds in a file."""

from pydantic import ValidationError


def first_mistake(error: ValidationError) -> str:
    """Return where the first mistake is and what it is, in a line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
