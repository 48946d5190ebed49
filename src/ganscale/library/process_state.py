"""What a run sets for its whole process, and gives back to the program that called it."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ganscale.engines.allocator import give_back_freed_memory
from ganscale.engines.distributed import world_size

log = logging.getLogger("ganscale")


@contextmanager
def given_back() -> Iterator[None]:
    """Give back at the end, however that comes, what a run may change for the whole process.

    These are PyTorch's choices and its random numbers, the logger `ganscale`, the filters of
    warnings, environment variables, Accelerate's state, and the memory that was kept. Signal
    handlers are given back by who sets them.
    """
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():  # the filters are no thread's own
            stack.enter_context(warnings.catch_warnings())
        for part in (_torch, _random_numbers, logger, _environment, _accelerate):
            stack.enter_context(part())
        stack.callback(give_back_freed_memory)
        yield


@contextmanager
def logger() -> Iterator[None]:
    """Give back the handlers and the level of the logger `ganscale`."""
    handlers, level, propagate = log.handlers[:], log.level, log.propagate
    try:
        yield
    finally:
        log.handlers[:] = handlers
        log.setLevel(level)
        log.propagate = propagate


@contextmanager
def _torch() -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    tf32, benchmark = (matmul.allow_tf32, cudnn.allow_tf32), cudnn.benchmark
    deterministic = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    compiler = sys.modules.get("torch._dynamo.config")
    graphs = compiler.recompile_limit if compiler is not None else None
    try:
        yield
    finally:
        (matmul.allow_tf32, cudnn.allow_tf32), cudnn.benchmark = tf32, benchmark
        if torch.are_deterministic_algorithms_enabled() != deterministic:
            torch.use_deterministic_algorithms(deterministic, warn_only=only_warns)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
        if compiler is not None:
            compiler.recompile_limit = graphs  # type: ignore[attr-defined]


@contextmanager
def _random_numbers() -> Iterator[None]:
    """Give back the state of PyTorch's generators, so that a run does not reseed the program."""
    host = torch.get_rng_state()
    gpu = _module_of_gpu_in_use()
    on_gpu = None if gpu is None else gpu.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(host)
        if gpu is not None:
            gpu.set_rng_state(on_gpu)


def _module_of_gpu_in_use() -> Any:
    """Return `torch.cuda` or its like; None if no GPU is in use: asking one would start it."""
    device = torch.accelerator.current_accelerator()
    if device is None:
        return None
    module = torch.get_device_module(device)
    # MPS cannot tell, and has nothing to start that costs time.
    return module if getattr(module, "is_initialized", module.is_available)() else None


@contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value


@contextmanager
def _accelerate() -> Iterator[None]:
    """Forget Accelerate's state, unless the program or its next run needs it.

    The processes of a distributed run stay connected: their launcher's store knows the addresses of
    one process group only.
    """
    from accelerate.state import AcceleratorState, GradientState, PartialState

    is_theirs = bool(PartialState._shared_state)
    try:
        yield
    finally:
        if not is_theirs and world_size() == 1:
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
