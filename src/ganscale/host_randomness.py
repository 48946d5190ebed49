"""Random numbers on the host, as a pure function of (seed, purpose, step): the order of the data.

They come from numpy's Philox4x64-10, whose raw stream numpy guarantees never to change.
"""

import numpy as np
from numpy.typing import NDArray

from ganscale.randomness import hash_bytes


def philox(seed: int, purpose: str, step: int) -> np.random.Philox:
    """Return the bit generator for one purpose at one step.

    Draw from it with `random_raw`: numpy gives no guarantee for the methods of
    `numpy.random.Generator`.
    """
    return np.random.Philox(key=hash_bytes(f"{seed}/{purpose}/{step}", 16))


def permutation(seed: int, purpose: str, step: int, n: int) -> NDArray[np.int64]:
    """Return a random permutation of range(n), int64 of shape (n,)."""
    return np.argsort(philox(seed, purpose, step).random_raw(n), kind="stable")
