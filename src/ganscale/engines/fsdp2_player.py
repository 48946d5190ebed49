"""A player whose weights, gradients and moments are divided among ranks by torch's FSDP2.

A network is one unit: put together at its first forward after an update, and kept whole until the
next one. Between these lies all that a game asks of it: two forwards before a backward, a second
derivative, the other player's loss through it.

The call is torch's own: Accelerate knows FSDP on accelerators alone, and would make units of its
own inside the network, which a penalty's derivative then finds put away.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ganscale.config import Train
from ganscale.engines.player import Player

# Nothing here writes into what a network returned.
warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")


class FSDPPlayer(Player):
    """`network` and `raw` are the same module."""

    replicated = False

    def _prepare(self, optimizer: torch.optim.Optimizer, train: Train) -> None:
        # What is divided has to be contiguous; channels_last stays the images' order.
        self.raw.to(memory_format=torch.contiguous_format)
        mesh = init_device_mesh(self.device.type, (self.accelerator.num_processes,))
        self.network = fully_shard(self.raw, mesh=mesh, reshard_after_forward=False)
        self.network.set_reshard_after_backward(False)
        (group,) = optimizer.param_groups
        group["params"] = list(self.raw.parameters())
        self.optimizer = optimizer

    @contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """The whole network with parameters that take no gradient: to differentiate through."""
        with self.whole(), super().frozen() as network:
            yield network

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """Around the forward and backward of a micro-batch: gradients are reduced in the last."""
        self.network.set_requires_gradient_sync(last)
        yield

    def step(self, measure: bool = False) -> Tensor | None:
        """Update this rank's part and clear the gradients; returns their norm if measured."""
        self.network.reshard()
        norm = super().step(measure)
        return _whole(norm) if norm is not None else None

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Around anything that reads the network's weights; every rank enters it."""
        self.network.unshard()
        yield

    def state(self) -> dict[str, Tensor]:
        """The whole network's weights; every rank must call it."""
        return {name: _whole(value) for name, value in super().state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take this rank's part of these weights."""
        self.network.reshard()
        own = dict(self.raw.named_parameters())
        parts = {
            name: _part(value.to(self.device), own[name]) if name in own else value
            for name, value in state.items()
        }
        super().load_state(parts)

    def _optimizer_state(self) -> dict[str, Any]:
        states = super()._optimizer_state()["state"]
        return {
            "state": {
                number: {key: _whole(value).cpu() for key, value in state.items()}
                for number, state in states.items()
            }
        }

    def _load_optimizer_state(self, state: dict[str, Any]) -> None:
        (group,) = self.optimizer.param_groups
        parts = {
            number: {
                key: value if value.dim() == 0 else _part(value.to(self.device), parameter)
                for key, value in state["state"][number].items()
            }
            for number, parameter in enumerate(group["params"])
            if number in state["state"]
        }
        super()._load_optimizer_state({"state": parts})


def _whole(tensor: Tensor) -> Tensor:
    """The tensor put together from its parts, if it is divided."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _part(value: Tensor, parameter: Any) -> Tensor:
    """This rank's part of a tensor that every rank has, divided as the parameter is."""
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
