"""The distribution of real images that the generator should learn: what training draws.

In a plain dataset every sample has the same weight. In a mixture, and with balanced classes, the
samples of a stratum together have the stratum's share of all samples drawn.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganscale.data.reading.mixture import Stratum
from ganscale.data.reading.order import Indices
from ganscale.host_randomness import philox


class Distribution:
    """Weighted strata of a dataset. All its random draws are the same every time."""

    def __init__(self, strata: Sequence[Stratum]):
        self._strata = strata
        self._sizes = np.array([len(stratum.members) for stratum in strata])
        self._shares = np.array([stratum.share for stratum in strata])
        self.samples = int(self._sizes.sum())
        """The number of images that training draws from."""

    def weights(self, numbers: Indices) -> Tensor:
        """Return the weights of these samples: (N,), float64, 1 on average over the dataset."""
        weights = np.zeros(len(numbers))
        for stratum, share in zip(self._strata, self._shares, strict=True):
            weights[_contains(stratum.members, numbers)] = (
                share * self.samples / len(stratum.members)
            )
        return torch.from_numpy(weights)

    def draw(self, number: int, purpose: str) -> Indices:
        """Draw `number` samples independently, with replacement; return their numbers, (N,)."""
        random = philox(0, purpose, 0)
        ends = np.cumsum(self._shares)[:-1] * 2.0**64
        which = np.searchsorted(ends, random.random_raw(number).astype(np.float64), side="right")
        places = random.random_raw(number) % self._sizes[which].astype(np.uint64)
        drawn = np.empty(number, dtype=np.int64)
        for i, stratum in enumerate(self._strata):
            drawn[which == i] = _pick(stratum.members, places[which == i].astype(np.int64))
        return drawn

    def resample(self, purpose: str) -> Indices:
        """Draw a bootstrap sample: from each stratum, with replacement, as many as it has."""
        random = philox(0, purpose, 0)
        return np.concatenate(
            [
                _pick(s.members, (random.random_raw(n) % np.uint64(n)).astype(np.int64))
                for s, n in zip(self._strata, self._sizes.tolist(), strict=True)
            ]
        )

    def spread(self, limit: int) -> Indices:
        """Return up to `limit` samples, none twice, spread evenly over the strata by their shares.

        There are fewer if otherwise a small stratum with a large share would have to repeat.
        """
        number = min(limit, int((self._sizes / self._shares).min()))
        quota = np.floor(self._shares * number).astype(np.int64)
        for i in np.argsort(quota - self._shares * number, kind="stable")[: number - quota.sum()]:
            quota[i] += 1
        return np.sort(
            np.concatenate(
                [
                    _pick(s.members, np.linspace(0, n, min(q, n), endpoint=False).astype(np.int64))
                    for s, n, q in zip(self._strata, self._sizes, quota, strict=True)
                ]
            )
        )

    def __str__(self) -> str:
        """Return a text that identifies this distribution among all those over one dataset."""
        parts = zip(self._sizes, self._shares, strict=True)
        return ", ".join(f"{size} by {share:.6f}" for size, share in parts)


def _pick(members: Indices | range, places: Indices) -> Indices:
    """Return the members at these places."""
    return places + members.start if isinstance(members, range) else members[places]


def _contains(members: Indices | range, numbers: Indices) -> NDArray[np.bool_]:
    """Return, for each number, whether it is among the members."""
    if isinstance(members, range):
        return (members.start <= numbers) & (numbers < members.stop)
    places = np.searchsorted(members, numbers).clip(max=len(members) - 1)
    found: NDArray[np.bool_] = members[places] == numbers
    return found
