"""The optimizers: PyTorch's own arithmetic, without PyTorch's compiler."""

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from ganscale.engines.adam import EagerAdam

METHODS = ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")


def trained(kind: type[torch.optim.Optimizer], **options: Any) -> dict[str, Any]:
    """Return weights and moments after steps with gradients and one with cleared ones."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    optimizer: Any = kind(network.parameters(), lr=0.1, fused=True, **options)
    for step in range(4):
        network(torch.randn(2, 5)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert all(parameter.grad is None for parameter in network.parameters())
        if step == 1:
            optimizer.load_state_dict(optimizer.state_dict())
    return {"weights": network.state_dict(), **optimizer.state_dict()}


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return bool(one == other)


@pytest.mark.parametrize(
    ("theirs", "own"),
    [
        (torch.optim.Adam, {}),
        (torch.optim.AdamW, {"weight_decay": 0.01, "decoupled_weight_decay": True}),
    ],
)
def test_it_is_pytorchs_adam_bit_for_bit(
    theirs: type[torch.optim.Optimizer], own: dict[str, Any]
) -> None:
    assert equal(trained(EagerAdam, **own), trained(theirs))


def test_steps_are_not_differentiated_through() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = EagerAdam([weight], lr=0.1)
    weight.grad = torch.ones(2)
    optimizer.step()
    assert weight.is_leaf
    assert weight.grad_fn is None


def test_pytorch_still_wraps_what_is_unwrapped() -> None:
    """Once PyTorch wraps none of them, the class is not needed any more."""
    assert any(hasattr(inspect.getattr_static(torch.optim.Adam, m), "__wrapped__") for m in METHODS)
