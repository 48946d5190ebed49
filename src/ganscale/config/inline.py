"""YAML on one line, the form in which an override gives a value."""

import math
from typing import Any

from yaml import safe_dump


def inline_yaml(value: Any) -> str:
    """Return a value as YAML on one line, as in an override."""
    text: str = safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf)
    return text.strip().removesuffix("\n...").strip()
