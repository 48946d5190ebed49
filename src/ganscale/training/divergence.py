"""Checks that stop a run which has gone wrong, before a checkpoint keeps the damage."""

from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from ganscale.engines import distributed
from ganscale.errors import GanscaleError
from ganscale.runs.checkpoint_names import list_finished
from ganscale.training.model import GANModel

LEAST_LOSS_SCALE = 1.0  # it begins at 65,536 and is halved at each step that overflows


def refuse_differing_ranks(model: GANModel, step: int) -> None:
    """Compare the weights that all ranks should share; every rank calls it.

    Raises `GanscaleError` on all of them with the name of the first tensor that differs. Weights
    that an engine partitions have no second copy to compare with.
    """
    if distributed.world_size() == 1:
        return
    networks = {"ema": model.average.network}
    for player in (model.generator, model.discriminator):
        if player.replicated:
            networks[player.name] = player.module
    named = [
        (f"{network} {name}", parameter)
        for network, module in networks.items()
        for name, parameter in module.named_parameters()
    ]
    sums = torch.stack([_bits(parameter) for _, parameter in named])
    lowest = distributed.all_reduce(sums.clone(), "min")
    highest = distributed.all_reduce(sums.clone(), "max")
    differing = (lowest != highest).nonzero().flatten().tolist()
    if differing:
        raise GanscaleError(
            f"the processes no longer hold the same weights at step {step:,}: "
            f"{named[differing[0]][0]} is the first of {len(differing)} tensors that differ. "
            "A faulty device or memory is the usual cause (see the nodes' logs); start again and "
            "the run resumes from its last checkpoint.",
            every_rank=True,
            temporary=True,
        )


def _bits(tensor: Tensor) -> Tensor:
    """Return the sum of a float32 tensor's bit patterns, which any differing bit changes."""
    return tensor.detach().contiguous().view(torch.int32).sum(dtype=torch.int64)


class Divergence:
    """Raises `GanscaleError` on all ranks once a run has diverged."""

    def __init__(self, model: GANModel, checkpoints: Path):
        self._players = (model.generator, model.discriminator)
        self._checkpoints = checkpoints

    def loss_scales(self) -> dict[str, float]:
        """Return each player's loss scale under fp16; nothing in another precision."""
        scales = {f"loss_scale_{player.name}": player.loss_scale for player in self._players}
        return {name: scale for name, scale in scales.items() if scale is not None}

    def refuse_numbers(self, step: int, not_finite: list[str]) -> None:
        """Stop if a logged number is NaN or infinite.

        Under fp16 a step that overflows is skipped and its loss scale halved, which is ordinary:
        there, only a loss scale that has vanished means that no step succeeds any more.
        """
        scales = self.loss_scales()
        if scales:
            gone = [f"{n} has fallen to {s:.3g}" for n, s in scales.items() if s < LEAST_LOSS_SCALE]
            problem = f"{gone[0]} (every step overflows)" if gone else ""
        else:
            problem = f"{not_finite[0]} is not a finite number" if not_finite else ""
        if problem:
            self._stop(step, problem)

    def refuse_weights(self, step: int, weights: dict[str, dict[str, Tensor]]) -> None:
        """Stop before a checkpoint keeps weights that are not finite.

        Under fp16 the running statistics of a step that overflowed may be infinite, which
        `refuse_numbers` judges by the loss scale; a parameter never may, since the optimizer skips
        such a step.
        """
        buffers = {name for player in self._players for name, _ in player.module.named_buffers()}
        excused: set[str] = buffers if self.loss_scales() else set()
        for part, tensors in weights.items():
            for name, tensor in tensors.items():
                if name not in excused and not torch.isfinite(tensor).all():
                    self._stop(step, f"{part} {name} is not a finite number")

    def _stop(self, step: int, problem: str) -> NoReturn:
        kept = list_finished(self._checkpoints)
        raise GanscaleError(
            f"{problem} at step {step:,}: the run has diverged. The last checkpoint is "
            f"{kept[-1].name if kept else 'none'}; start again with a lower learning rate, a "
            "penalty, or train.precision=fp32.",
            every_rank=True,
        )
