"""The height and width of images, in whichever form an experiment or a command line gives them."""

import re
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

PATTERN = r"[0-9]{1,9}([x×][0-9]{1,9})?"
SCHEMA_PATTERN = "^[0-9]+x[0-9]+$"
LARGEST = 1 << 16  # pixels, of a side
WANTED = (
    f"must be a number of pixels up to {LARGEST:,}, or two for height and width, as in [64, 96] or "
    "64x96"
)


def read_resolution(value: Any) -> int | tuple[int, int]:
    """Return a side of square images, or (height, width); raise `ValueError` for anything else.

    `value` is a number, a sequence of two, or text such as `64` and `64x96`.
    """
    if isinstance(value, str):
        if re.fullmatch(PATTERN, value.strip()) is None:
            raise ValueError(WANTED)
        value = [int(side) for side in re.split("[x×]", value.strip())]
    sides = list(value) if isinstance(value, list | tuple) else [value]
    if len(sides) not in (1, 2) or not all(map(_is_side, sides)):
        raise ValueError(WANTED)
    height, width = int(sides[0]), int(sides[-1])
    return height if height == width else (height, width)


def write_resolution(height: int, width: int) -> str:
    """Return a size as `read_resolution` reads it: `64` or `64x96`."""
    return str(height) if height == width else f"{height}x{width}"


def _is_side(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value <= LARGEST and value == int(value)


class _Written:
    """Annotation that reads all forms, and lists them in the schema for editors."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(read_resolution)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        side = {"type": "integer", "exclusiveMinimum": 0}
        pair = {"type": "array", "prefixItems": [side, side], "minItems": 2, "maxItems": 2}
        return {"anyOf": [side, pair, {"type": "string", "pattern": SCHEMA_PATTERN}]}


Resolution = Annotated[int | tuple[int, int], _Written()]
"""Side of square images, or height and width, in pixels."""
