"""Values as an override takes them."""

import math
from typing import Any

from yaml import safe_dump


def inline_yaml(value: Any) -> str:
    """Return a value as an override takes it: YAML on one line."""
    text: str = safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf)
    return text.strip().removesuffix("\n...").strip()
