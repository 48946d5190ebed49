"""Compiles what a step computes, and keeps the compiled code for the next start."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from ganscale import randomness

CACHE = Path("~/.cache/ganscale/compiled")
"""Not in the run folder: what lies there is executed, and a run folder may be a stranger's."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compile_whole(loss: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a loss that is compiled at its first call, as one graph, penalties included.

    TORCHINDUCTOR_CACHE_DIR, if it is set, names another folder for the compiled code.
    """
    torch.compiler.assume_constant_result(randomness.key_of)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE.expanduser()))
    compiled: Callable[Arguments, Result] = torch.compile(loss, fullgraph=True, dynamic=False)
    return compiled
