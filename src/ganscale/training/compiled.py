"""Compiles what a step computes, and keeps the compiled code for the next start."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from ganscale import devices, randomness

CACHE = Path("~/.cache/ganscale/compiled")
"""Not in the run folder: what lies there is executed, and a run folder may be a stranger's."""

MOST_GRAPHS = 256
"""Graphs of one loss. Each micro-batch, and each set of penalties that are due together, has its
own; by itself PyTorch gives up after eight, as a function may be compiled anew at each call."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compile_whole(loss: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a loss that is compiled at its first call, as one graph, penalties included.

    TORCHINDUCTOR_CACHE_DIR, if it is set, names another folder for the compiled code.
    """
    torch.compiler.assume_constant_result(randomness.key_of)
    torch.compiler.assume_constant_result(devices.has_float64)
    torch._dynamo.config.recompile_limit = MOST_GRAPHS
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE.expanduser()))
    compiled: Callable[Arguments, Result] = torch.compile(loss, fullgraph=True, dynamic=False)
    return compiled
