"""Train GANs from one laptop to many nodes."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganscale.config import Experiment
    from ganscale.errors import GanscaleError
    from ganscale.library.callbacks import (
        Callback,
        CheckpointEvent,
        EvaluationEvent,
        Event,
        LogEvent,
        PictureEvent,
    )
    from ganscale.library.dataset import Dataset
    from ganscale.library.generator import Generator
    from ganscale.library.packing import pack
    from ganscale.library.run import Run
    from ganscale.library.scoring import evaluate
    from ganscale.library.training import train

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "CheckpointEvent",
    "Dataset",
    "EvaluationEvent",
    "Event",
    "Experiment",
    "GanscaleError",
    "Generator",
    "LogEvent",
    "PictureEvent",
    "Run",
    "__version__",
    "evaluate",
    "pack",
    "train",
]

_PLACES = {
    "Callback": "library.callbacks",
    "CheckpointEvent": "library.callbacks",
    "EvaluationEvent": "library.callbacks",
    "Dataset": "library.dataset",
    "Event": "library.callbacks",
    "Experiment": "config",
    "GanscaleError": "errors",
    "Generator": "library.generator",
    "LogEvent": "library.callbacks",
    "PictureEvent": "library.callbacks",
    "Run": "library.run",
    "evaluate": "library.scoring",
    "pack": "library.packing",
    "train": "library.training",
}


def __getattr__(name: str) -> Any:
    """Import a part of the library when it is first used, and nothing of the others."""
    if name not in _PLACES:
        raise AttributeError(f"module 'ganscale' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ganscale.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
