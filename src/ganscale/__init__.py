"""Train GANs from one laptop to many nodes."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganscale.library.generator import Generator

__version__ = "0.1.0"
__all__ = ["Generator", "__version__"]

_PLACES = {"Generator": "ganscale.library.generator"}


def __getattr__(name: str) -> Any:
    """Import a part of the library when it is first used, and nothing of the others."""
    if name not in _PLACES:
        raise AttributeError(f"module 'ganscale' has no attribute '{name}'")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
