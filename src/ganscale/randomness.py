"""Random numbers as a pure function of (seed, purpose, step), with no state to save or restore.

The generator is Philox, which is counter-based: each row of a draw starts at its own counter.
Thus a process draws only its own rows of the global batch, and gets exactly the numbers that a
single process would have drawn for those rows.
"""

import hashlib
from collections import Counter
from math import prod, tau

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganscale.config import Latent

WORDS_PER_COUNT = 4  # Philox4x64 produces four 64-bit words per counter value


def _key(seed: int, purpose: str, step: int) -> int:
    """Return a 128-bit key that is the same on every machine and in every version of Python."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def philox(seed: int, purpose: str, step: int) -> np.random.Philox:
    """Return the bit generator for one purpose at one step.

    Draw from it with `random_raw`: numpy guarantees that this stream never changes, but gives no
    such guarantee for the methods of `numpy.random.Generator`.
    """
    return np.random.Philox(key=_key(seed, purpose, step))


def permutation(seed: int, purpose: str, step: int, n: int) -> NDArray[np.int64]:
    """Return a random permutation of range(n), int64 of shape (n,)."""
    return np.argsort(philox(seed, purpose, step).random_raw(n), kind="stable")


def torch_seed(seed: int, purpose: str, step: int = 0) -> int:
    """Return a seed for `torch.manual_seed`, for code that draws with torch's own generators."""
    return _key(seed, purpose, step) & (2**63 - 1)


def _unit(seed: int, purpose: str, step: int, rows: range, columns: int) -> NDArray[np.float64]:
    """Return the given rows of the global draw: float64 in [0, 1), shape (len(rows), columns)."""
    counts = -(-columns // WORDS_PER_COUNT)
    bits = philox(seed, purpose, step)
    bits.advance(rows.start * counts)
    words = bits.random_raw(len(rows) * counts * WORDS_PER_COUNT)
    table = words.reshape(len(rows), counts * WORDS_PER_COUNT)[:, :columns]
    unit: NDArray[np.float64] = (table >> np.uint64(11)).astype(np.float64)
    unit *= 2.0**-53
    return unit


def uniform(seed: int, purpose: str, step: int, rows: range, shape: tuple[int, ...]) -> Tensor:
    """Return the given rows of a uniform global draw: float32 in [0, 1], (len(rows), *shape).

    Rounding to float32 may turn a number just below 1 into 1.
    """
    unit = _unit(seed, purpose, step, rows, prod(shape))
    return torch.from_numpy(unit.astype(np.float32)).view(len(rows), *shape)


def normal(seed: int, purpose: str, step: int, rows: range, shape: tuple[int, ...]) -> Tensor:
    """Return the given rows of a standard normal global draw: float32, (len(rows), *shape).

    This is the transform of Box and Muller (1958), computed in float64 so that the last digit of
    a machine's logarithm does not reach float32.
    """
    columns = prod(shape)
    half = -(-columns // 2)
    unit = torch.from_numpy(_unit(seed, purpose, step, rows, 2 * half))
    radius = torch.neg(unit[:, :half]).log1p_().mul_(-2).sqrt_()
    angle = unit[:, half:].mul_(tau)
    pairs = torch.empty(len(rows), 2 * half)
    torch.mul(radius, torch.cos(angle), out=pairs[:, :half])
    torch.mul(radius, torch.sin(angle), out=pairs[:, half:])
    return pairs[:, :columns].reshape(len(rows), *shape)


class Draws:
    """Uniform numbers for some rows of a global batch, at one step.

    Called with a purpose and a shape, it returns (len(rows), *shape) float32 numbers in [0, 1] on
    the device; each draw is a stream of its own, numbered in the order of the calls.
    """

    def __init__(self, seed: int, step: int, rows: range, device: torch.device):
        self._seed = seed
        self._step = step
        self._rows = rows
        self._device = device
        self._drawn: Counter[str] = Counter()

    def __call__(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Return the next numbers for that purpose."""
        self._drawn[purpose] += 1
        stream = f"{purpose}/{self._drawn[purpose]}"
        numbers = uniform(self._seed, stream, self._step, self._rows, shape)
        return numbers.to(self._device, non_blocking=True)


def latents(latent: Latent, seed: int, purpose: str, step: int, rows: range) -> Tensor:
    """Return the latents of the given rows of a global batch: float32, (len(rows), dim)."""
    purpose = f"latent/{purpose}"
    if latent.distribution == "normal":
        return normal(seed, purpose, step, rows, (latent.dim,))
    return 2 * uniform(seed, purpose, step, rows, (latent.dim,)) - 1
