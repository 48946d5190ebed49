"""What it costs that gradients are added up in the same order after a resume.

    OMP_NUM_THREADS=1 torchrun --nproc_per_node 4 bench/reduction.py

Times one forward, backward and reduction of a discriminator, in turns within one run: PyTorch's
DDP as it comes, which lays its buckets out anew after the first step; the same with
`find_unused_parameters`, which does not; and one all-reduce of a flat tensor, as ganscale does it.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ganscale.engines.distributed import average_gradients
from ganscale.networks.dcgan import DCGANDiscriminator
from ganscale.networks.mlp import MLPDiscriminator

ROUNDS, WARM_UP = 40, 5
GAMES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP 28, batch 32 a rank": (lambda: MLPDiscriminator((1, 28, 28)), (32, 1, 28, 28)),
    "DCGAN-64, width 64, batch 2 a rank": (
        lambda: DCGANDiscriminator((3, 64, 64), 64, "none"),
        (2, 3, 64, 64),
    ),
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    device = torch.device("cuda", dist.get_rank()) if torch.cuda.is_available() else None
    for name, (make, shape) in GAMES.items():
        torch.manual_seed(0)
        network, images = make().to(device), torch.randn(shape, device=device)
        seconds = timed(network, images)
        if dist.get_rank() == 0:
            default = seconds["default"]
            ratios = ", ".join(f"{kind} {s / default:.2f}" for kind, s in seconds.items())
            print(f"{name}: {1000 * default:.1f} ms; relative to that {ratios}", flush=True)
    dist.destroy_process_group()


def timed(network: nn.Module, images: Tensor) -> dict[str, float]:
    """Median seconds of each kind of reduction."""
    options: dict[str, Any] = {"broadcast_buffers": False, "gradient_as_bucket_view": True}
    kinds: dict[str, nn.Module] = {
        "default": DistributedDataParallel(copy.deepcopy(network), **options),
        "one layout": DistributedDataParallel(
            copy.deepcopy(network), find_unused_parameters=True, **options
        ),
        "flat": copy.deepcopy(network),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, module in kinds.items():
            dist.barrier()
            start = time.perf_counter()
            (module(images).mean() - module(-images).mean()).backward()
            if kind == "flat":
                average_gradients([p.grad for p in module.parameters() if p.grad is not None])
            dist.barrier()
            seconds[kind].append(time.perf_counter() - start)
            module.zero_grad()
    return {kind: statistics.median(found[WARM_UP:]) for kind, found in seconds.items()}


if __name__ == "__main__":
    main()
