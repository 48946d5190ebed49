"""A player whose weights, gradients and moments torch's FSDP2 partitions among the ranks.

The network is one unit. It is gathered at its first forward after an update and partitioned again
just before the next update. In between lies everything that the game does with it: two forwards
before a backward, a second derivative, and the other player's loss through it.

This calls torch's `fully_shard` directly: Accelerate supports FSDP on accelerators only, and would
create units inside the network, which a penalty's second derivative would find released.
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
from ganscale.engines import distributed
from ganscale.engines.player import Player

# The warning is about in-place writes to a network's output, and there are none.
warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")


class FSDP2Player(Player):
    """Each rank holds its part of the weights, gradients and moments."""

    replicated = False

    def _prepare(self, optimizer: torch.optim.Optimizer, train: Train) -> None:
        # Partitioned weights must be contiguous; channels_last stays the images' memory order.
        self.module.to(memory_format=torch.contiguous_format)
        mesh = init_device_mesh(self.device.type, (distributed.world_size(),))
        self._sharded = fully_shard(self.module, mesh=mesh, reshard_after_forward=False)
        self._sharded.set_reshard_after_backward(False)
        (group,) = optimizer.param_groups
        group["params"] = list(self.module.parameters())
        self.optimizer = optimizer

    @contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """Give the plain network without gradients for its parameters: to differentiate through."""
        with self.gathered_weights(), super().frozen() as network:
            yield network

    def _trained_parameters(self) -> list[nn.Parameter]:
        """Return those of now: gathered weights are other objects than partitioned ones."""
        return self._find_trained_parameters()

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """Enclose a micro-batch's forward and backward; the last one reduces the gradients."""
        self._sharded.set_requires_gradient_sync(last)
        yield

    def step(self, measure: bool = False) -> Tensor | None:
        """Update this rank's part and clear the gradients; returns their norm if measured."""
        self._sharded.reshard()
        norm = super().step(measure)
        return _gather(norm) if norm is not None else None

    @contextmanager
    def gathered_weights(self) -> Iterator[None]:
        """Enclose what reads the weights of `module`: inside, every rank has all of them.

        They stay gathered until the next update, since the next forward needs them anyway.
        """
        self._sharded.unshard()
        yield

    def weights(self) -> dict[str, Tensor]:
        """Return the whole network's weights; every rank must call it."""
        return {name: _gather(value) for name, value in super().weights().items()}

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Load this rank's part of these weights."""
        self._sharded.reshard()
        own = dict(self.module.named_parameters())
        parts = {
            name: _part(value.to(self.device), own[name]) if name in own else value
            for name, value in state.items()
        }
        super().load_weights(parts)

    def _optimizer_state(self) -> dict[str, Any]:
        states = super()._optimizer_state()["state"]
        return {
            "state": {
                number: {key: _gather(value).cpu() for key, value in state.items()}
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


def _gather(tensor: Tensor) -> Tensor:
    """Return the whole tensor, gathered from all ranks if it is partitioned."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _part(value: Tensor, parameter: Any) -> Tensor:
    """Return this rank's part of a tensor that every rank has, partitioned like the parameter."""
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
