"""Latents and instance noise of a step, as ganscale draws them and as it used to.

    OMP_NUM_THREADS=2 python bench/noise.py [--device cuda] [--json FILE]

The old way is numpy's Philox4x64 on the host, turned to float32 there and copied to the device.
All are timed in turns in one run; each figure is the median of the rounds.
"""

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable
from math import prod, tau
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganscale import philox, randomness
from ganscale.devices import wait_for

ROUNDS = 21
DRAWS = {
    "latents, 128 × 100": (range(128), (100,)),
    "latents, 64 × 128": (range(64), (128,)),
    "instance noise, 64 × 3 × 64 × 64": (range(64), (3, 64, 64)),
}


def on_the_host(step: int, rows: range, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Draw normal numbers as versions of ganscale did whose random stream had number 1."""
    half = -(-prod(shape) // 2)
    digest = hashlib.blake2b(f"0/noise/{step}".encode(), digest_size=16).digest()
    bits = np.random.Philox(key=int.from_bytes(digest, "little"))
    words = bits.random_raw(len(rows) * 2 * half).reshape(len(rows), 2 * half)
    unit = torch.from_numpy((words >> np.uint64(11)).astype(np.float64)).mul_(2.0**-53)
    radius = torch.neg(unit[:, :half]).log1p_().mul_(-2).sqrt_()
    angle = unit[:, half:].mul_(tau)
    pairs = torch.empty(len(rows), 2 * half)
    torch.mul(radius, torch.cos(angle), out=pairs[:, :half])
    torch.mul(radius, torch.sin(angle), out=pairs[:, half:])
    return pairs.view(len(rows), *shape).to(device, non_blocking=True)


def on_the_device(step: int, rows: range, shape: tuple[int, ...], device: torch.device) -> Tensor:
    return randomness.normal(0, "noise", step, rows, shape, device)


def without_the_kernel(
    step: int, rows: range, shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Draw the same numbers as with a PyTorch that has no kernel for Philox."""
    native, philox._native_bits = philox._native_bits, philox._bits
    try:
        return on_the_device(step, rows, shape, device)
    finally:
        philox._native_bits = native


WAYS: dict[str, Callable[..., Tensor]] = {
    "host": on_the_host,
    "device": on_the_device,
    "device, no kernel": without_the_kernel,
}


def seconds(
    draw: Callable[..., Tensor],
    rows: range,
    shape: tuple[int, ...],
    device: torch.device,
    repeats: int,
) -> float:
    start = time.perf_counter()
    for step in range(repeats):
        draw(step, rows, shape, device)
    wait_for(device)
    return (time.perf_counter() - start) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    for name, (rows, shape) in DRAWS.items():
        repeats = max(2, 1_000_000 // (len(rows) * prod(shape)))
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS + 1):
            for way, draw in WAYS.items():
                found[way].append(seconds(draw, rows, shape, arguments.device, repeats))
        # The first round warms up.
        medians = {way: 1000 * statistics.median(times[1:]) for way, times in found.items()}
        figures[name] = medians
        for way, median in medians.items():
            ratio = medians["host"] / median
            print(f"{name:34} {way:18} {median:7.3f} ms   {ratio:5.2f} × as fast as on the host")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
