"""Adam as PyTorch has it, without the import of PyTorch's compiler."""

import inspect
from typing import Any

import torch
from torch import nn

from ganscale.config import Adam
from ganscale.config.schedules import first_value


class EagerAdam(torch.optim.Adam):
    """`torch.optim.Adam` for steps outside `torch.compile`.

    PyTorch wraps these methods to keep its compiler from tracing them, and the wrappers import the
    compiler: that is more than a second of every process's start, compiled or not. Each method here
    is the function inside the wrapper, so the arithmetic stays PyTorch's own. If a version of
    PyTorch has no wrapper, the method is the inherited one.
    """

    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Adam.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Adam.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Adam.load_state_dict)
    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
    step.hooked = True  # PyTorch's wrapper for hooks and profilers takes 1 % of a small step


def make_adam(network: nn.Module, options: Adam, kind: type[torch.optim.Adam]) -> torch.optim.Adam:
    """Return Adam over all weights of a network, at the first value of each schedule."""
    first, second = (first_value(beta) for beta in options.betas)
    return kind(
        network.parameters(),
        lr=first_value(options.lr),
        betas=(first, second),
        eps=options.eps,
        fused=True,
    )
