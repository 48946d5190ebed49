"""Random numbers as a pure function of (seed, purpose, step), with no state to save or restore.

The generators are counter-based: each row of a draw starts at a counter of its own. Thus a process
draws only its own rows of the global batch, and gets exactly the numbers that a single process
would have drawn for those rows.

What the networks see (latents, noise) is drawn on the device by Philox4x32-10, with the step as a
part of the counter, so that `step` may also be a 0-dimensional int64 tensor on the device: a
compiled function or a captured CUDA graph then draws other numbers at every step. The order of the
data is computed on the host: see `host_randomness`.
"""

import hashlib
from math import prod, tau
from typing import Protocol

import torch
from torch import Tensor

from ganscale.devices import HOST, has_float64
from ganscale.philox import WORDS_PER_COUNTER, random_bits

STREAM_VERSION = 2
"""Changes whenever a latent or any other number on the device does: a run cannot go on with other
numbers. Version 1 drew them on the host."""

Step = int | Tensor


class LatentOptions(Protocol):
    """What decides how latents are drawn."""

    @property
    def dim(self) -> int:
        """Length of a latent."""

    @property
    def distribution(self) -> str:
        """`normal` or `uniform`."""


def hash_bytes(name: str, size: int) -> int:
    """Return `size` bytes that are the same on every machine and in every version of Python."""
    digest = hashlib.blake2b(name.encode(), digest_size=size).digest()
    return int.from_bytes(digest, "little")


def torch_seed(seed: int, purpose: str, step: int = 0) -> int:
    """Return a seed for `torch.manual_seed`, for code that draws with torch's own generators."""
    return hash_bytes(f"{seed}/{purpose}/{step}", 16) & (2**63 - 1)


def key_of(seed: int, purpose: str) -> int:
    """Return the key of a stream on the device, 64 bits.

    `torch.compile` cannot trace the hash: whoever compiles a draw says that this is constant.
    """
    return hash_bytes(f"{seed}/{purpose}", 8)


def _bits(
    seed: int, purpose: str, step: Step, rows: range, columns: int, device: torch.device
) -> Tensor:
    """Return the given rows of a global draw of random words: int32, (len(rows), columns).

    Counters 2³² · step to 2³² · (step + 1) belong to a step: 2³⁴ words for all rows together.
    """
    counters = -(-columns // WORDS_PER_COUNTER)
    starts = torch.arange(len(rows), device=device) * counters
    starts += step * 2**32 + rows.start * counters
    return random_bits(key_of(seed, purpose), starts, columns)


def uniform(
    seed: int, purpose: str, step: Step, rows: range, shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Return the given rows of a uniform global draw: float32 in [0, 1), (len(rows), *shape).

    The numbers are multiples of 2⁻²⁴, computed without rounding: every device gives the same bits.
    """
    bits = _bits(seed, purpose, step, rows, prod(shape), device)
    return (bits >> 8).float().mul_(2.0**-24).add_(0.5).view(len(rows), *shape)


def normal(
    seed: int, purpose: str, step: Step, rows: range, shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Return the given rows of a standard normal global draw: float32, (len(rows), *shape).

    This is the transform of Box and Muller (1958) of two 32-bit words to two numbers of at most
    6.8. It is computed in float64 and then rounded: devices whose logarithm or cosine differ in
    the last digit give the same float32, except for about one number in 10⁸, which may differ in
    its last bit. For a device without float64, they are drawn on the host.
    """
    if not has_float64(device):
        on_host = step if isinstance(step, int) else step.cpu()
        return normal(seed, purpose, on_host, rows, shape, HOST).to(device)
    columns = prod(shape)
    half = -(-columns // 2)
    bits = _bits(seed, purpose, step, rows, 2 * half, device)
    unit = bits[:, :half].double().mul_(2.0**-32).add_(0.5 + 2.0**-33)
    radius = unit.log_().mul_(-2).sqrt_()
    angle = bits[:, half:].double().mul_(tau * 2.0**-32)
    cosine, sine = angle.cos().mul_(radius), angle.sin_().mul_(radius)
    pairs = torch.cat((cosine.float(), sine.float()), 1)
    return pairs[:, :columns].reshape(len(rows), *shape)


class Draws:
    """Uniform numbers for some rows of a global batch, at one step.

    Called with a purpose and a shape, it returns (len(rows), *shape) float32 numbers in [0, 1) on
    the device. Small draws of a purpose are cut from blocks of `BLOCK` numbers a row, because on a
    GPU a kernel's launch costs more than its work; each block and each larger draw is a stream of
    its own, numbered in the order of the calls.
    """

    BLOCK = 64

    def __init__(self, seed: int, step: Step, rows: range, device: torch.device):
        self._seed = seed
        self._step = step
        self._rows = rows
        self._device = device
        self._streams: dict[str, int] = {}
        self._unused: dict[str, Tensor] = {}

    def __call__(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Return the next numbers for that purpose."""
        number = prod(shape)
        if number > self.BLOCK:
            return self._next_stream(purpose, number).view(-1, *shape)
        unused = self._unused.get(purpose)
        if unused is None or unused.shape[1] < number:
            unused = self._next_stream(purpose, self.BLOCK)
        self._unused[purpose] = unused[:, number:]
        return unused[:, :number].reshape(-1, *shape)

    def _next_stream(self, purpose: str, columns: int) -> Tensor:
        number = self._streams.get(purpose, 0) + 1
        self._streams[purpose] = number
        stream = f"{purpose}/{number}"
        return uniform(self._seed, stream, self._step, self._rows, (columns,), self._device)


def latents(
    latent: LatentOptions, seed: int, purpose: str, step: Step, rows: range, device: torch.device
) -> Tensor:
    """Return the latents of the given rows of a global batch: float32, (len(rows), dim)."""
    purpose = f"latent/{purpose}"
    if latent.distribution == "normal":
        return normal(seed, purpose, step, rows, (latent.dim,), device)
    return 2 * uniform(seed, purpose, step, rows, (latent.dim,), device) - 1
