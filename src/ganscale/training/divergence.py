"""Whether all ranks still hold the same weights: GANs hide it well when they do not."""

import torch
from torch import Tensor

from ganscale.errors import GanscaleError
from ganscale.training.model import Game


def refuse_differing_ranks(game: Game, step: int) -> None:
    """Compare the weights that all ranks should share; every rank calls it.

    Raises `GanscaleError` on all of them with the name of the first tensor that differs. Weights
    that an engine divides among ranks have no second copy to compare with.
    """
    if game.generator.accelerator.num_processes == 1:
        return
    networks = {"ema": game.average.network}
    for player in (game.generator, game.discriminator):
        if player.replicated:
            networks[player.name] = player.raw
    named = [
        (f"{network} {name}", parameter)
        for network, module in networks.items()
        for name, parameter in module.named_parameters()
    ]
    sums = torch.stack([_bits(parameter) for _, parameter in named])
    lowest, highest = sums.clone(), sums.clone()
    torch.distributed.all_reduce(lowest, torch.distributed.ReduceOp.MIN)
    torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
    differing = (lowest != highest).nonzero().flatten().tolist()
    if differing:
        raise GanscaleError(
            f"the processes no longer hold the same weights at step {step:,}: "
            f"{named[differing[0]][0]} is the first of {len(differing)} tensors that differ. "
            "A faulty device or memory is the usual cause (see the nodes' logs); start again and "
            "the run goes on from its last checkpoint.",
            every_rank=True,
            temporary=True,
        )


def _bits(tensor: Tensor) -> Tensor:
    """The sum of a float32 tensor's bit patterns: any one bit that differs changes it."""
    return tensor.detach().contiguous().view(torch.int32).sum(dtype=torch.int64)
