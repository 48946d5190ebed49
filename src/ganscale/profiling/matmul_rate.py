"""The rate of a large matrix product on a device: what arithmetic can reach there in practice."""

import time

import torch

from ganscale.devices import wait_for

SIDES = {"cpu": 1024}
SIDE = 4096  # on anything else
LEAST_S = 0.1


def measure_matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of products of square matrices; it takes about a tenth of a second.

    The matrices hold ones, so that no random number is drawn.
    """
    side = SIDES.get(device.type, SIDE)
    a = torch.ones(side, side, device=device, dtype=dtype)
    out = torch.empty_like(a)
    torch.mm(a, a, out=out)  # libraries choose an algorithm at their first call
    best, begin = 0.0, time.perf_counter()
    repeats = 1 if device.type == "cpu" else 10  # a GPU's launches overlap
    while time.perf_counter() - begin < LEAST_S:
        wait_for(device)
        start = time.perf_counter()
        for _ in range(repeats):
            torch.mm(a, a, out=out)
        wait_for(device)
        best = max(best, repeats * 2 * side**3 / (time.perf_counter() - start))
    return best
