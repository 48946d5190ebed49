"""The latents of seeds in numpy: those that `ganscale.randomness` draws with torch, bit for bit.

A test compares the two. Normal numbers are computed in float64 and rounded to float32, so one in
about 10⁸ may differ in its last bit where the system's logarithm or cosine does.
"""

import hashlib
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Words = NDArray[np.uint64]

PURPOSE = "latent/sample"
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORDS_PER_COUNTER = 4
WORD = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
STANDARD = NormalDist()


def draw_latents(seeds: Sequence[int], dim: int, distribution: str) -> Floats:
    """Return the latent of sample 0 of each seed, float32 (len(seeds), dim)."""
    keys = np.array([_key_of(seed) for seed in seeds], np.uint64)
    if distribution == "uniform":
        high = (_random_words(keys, dim) >> np.uint64(8)).astype(np.int64)
        # As numbers of 24 bits with a sign: [0, 1) after adding a half.
        signed = np.where(high >= 2**23, high - 2**24, high)
        unit = signed.astype(np.float32) * np.float32(2.0**-24) + np.float32(0.5)
        doubled: Floats = 2 * unit - 1
        return doubled
    half = -(-dim // 2)
    words = _random_words(keys, 2 * half).astype(np.int64)
    signed = np.where(words >= 2**31, words - 2**32, words).astype(np.float64)
    unit64 = signed[:, :half] * 2.0**-32 + (0.5 + 2.0**-33)
    radius = np.sqrt(-2 * np.log(unit64))
    angle = signed[:, half:] * (math.tau * 2.0**-32)
    pairs = np.concatenate([np.cos(angle) * radius, np.sin(angle) * radius], 1)
    normal: Floats = pairs[:, :dim].astype(np.float32)
    return normal


def truncate(latents: Floats, threshold: float | None, distribution: str) -> Floats:
    """Return latents whose numbers all lie within the threshold; None changes nothing.

    See `ganscale.gan.truncation`: erf(z' / √2) = erf(t / √2) erf(z / √2).
    """
    if threshold is None:
        return latents
    if distribution == "uniform":
        nearer: Floats = latents * np.float32(min(threshold, 1.0))
        return nearer
    beyond = math.erfc(threshold / math.sqrt(2))
    share = 1 - beyond
    scale = 1 / math.sqrt(2)

    def inside(z: float) -> float:
        # The lower half's tail keeps its digits, where 1 - tail would lose them.
        tail = (beyond + share * math.erfc(abs(z) * scale)) / 2
        return math.copysign(STANDARD.inv_cdf(min(tail, 0.5)), z)

    moved = np.array([inside(z) for z in latents.ravel().tolist()], np.float64)
    kept: Floats = moved.astype(np.float32).clip(-threshold, threshold).reshape(latents.shape)
    return kept


def between(a: Floats, b: Floats, t: float, distribution: str) -> Floats:
    """Return the latents at `t` (0 … 1) on the way from a to b, each (N, dim).

    Normal latents lie near a sphere and are interpolated along it (White 2016), uniform ones along
    a line.
    """
    if distribution == "uniform":
        return np.asarray(a + np.float32(t) * (b - a), np.float32)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = ((a * b).sum(1) / lengths).clip(-0.9999, 0.9999)
    angle = np.arccos(cosine)[:, None]
    path = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return np.asarray(path, np.float32)


def _key_of(seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{PURPOSE}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _random_words(keys: Words, number: int) -> Words:
    """Return the first `number` words of Philox4x32-10 for each key: (len(keys), number)."""
    counters = -(-number // WORDS_PER_COUNTER)
    left = np.broadcast_to(np.arange(counters, dtype=np.uint64), (len(keys), counters))
    zero = np.zeros((len(keys), counters), np.uint64)
    old_right, right, old_left = zero, zero, zero
    low, high = (keys & WORD)[:, None], (keys >> HALF)[:, None]
    for i in range(ROUNDS):
        steps = [np.uint64(i * step) for step in KEY_STEPS]
        key = (low + steps[0]) & WORD, (high + steps[1]) & WORD
        new_left, new_right = left * np.uint64(MULTIPLIERS[0]), right * np.uint64(MULTIPLIERS[1])
        left = ((new_right >> HALF) ^ key[0] ^ old_right) & WORD
        right = ((new_left >> HALF) ^ key[1] ^ old_left) & WORD
        old_left, old_right = new_left & WORD, new_right & WORD
    words = np.stack([left, old_right, right, old_left], -1)
    return words.reshape(len(keys), -1)[:, :number]
