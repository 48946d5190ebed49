"""Fréchet distances of wide features from few images: what they cost, and how exact they are.

    OMP_NUM_THREADS=1 python bench/frechet.py --images 500
    OMP_NUM_THREADS=1 python bench/frechet.py --floor

If there are fewer images than features, the covariances are singular. The exact distance is then
known from the images themselves: Tr √(C C₂) is the sum of the singular values of X X₂ᵀ, where the
rows of X are centred features divided by √(N - 1).

`--floor` compares the FID of perfect samples as ganscale computes it, a bootstrap of one real set,
with the mean over sets that are really drawn from the same distribution.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy import linalg
from torch import Tensor

from ganscale.evaluation.features.network import Features
from ganscale.evaluation.metrics.fid import frechet_distance
from ganscale.evaluation.metrics.sums import Sums

WIDTHS = (128, 512, 1024, 2048)


def summed(features: Tensor) -> Sums:
    """Return the sums over features (N, width)."""
    measured = Features(features, features.new_zeros(len(features), 0))
    sums = Sums.zero(measured)
    sums.add(measured)
    return sums


def exact(x: Tensor, y: Tensor) -> float:
    """Return the distance from the features themselves."""
    (mean, a), (mean_2, b) = ((v.mean(0), (v - v.mean(0)) / (len(v) - 1) ** 0.5) for v in (x, y))
    root = torch.linalg.svdvals(a @ b.T).sum()
    return float((mean - mean_2).square().sum() + a.square().sum() + b.square().sum() - 2 * root)


def by_sqrtm(x: Tensor, y: Tensor) -> float:
    """Return the distance as pytorch-fid does."""
    c, c_2 = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = linalg.sqrtm(c @ c_2)
    means = (x.mean(0) - y.mean(0)).square().sum()
    return float(means + np.trace(c) + np.trace(c_2) - 2 * np.trace(root.real))


def timed(compute: Callable[[], float]) -> tuple[float, float]:
    """Return a value and the seconds that it took."""
    started = time.perf_counter()
    return compute(), time.perf_counter() - started


def print_floors(widths: list[int], repetitions: int = 3) -> None:
    """Print the bootstrap's floor as a share of the true one."""
    print("width  real  generated  true floor  the bootstrap's (share)")
    for width in widths:
        scale = torch.arange(1, width + 1, dtype=torch.float64).rsqrt()

        def draw(number: int, scale: Tensor = scale) -> Tensor:
            return (torch.randn(number, len(scale)).double() * scale + 0.1).relu()

        for real, made in ((1, 1), (4, 4), (20, 4), (20, 20)):
            n, m = real * width // 2, made * width // 2
            true = bootstrap = 0.0
            for _ in range(repetitions):
                x = draw(n)
                again, drawn = (x[torch.randint(n, (k,))] for k in (n, m))
                true += frechet_distance(summed(x), summed(draw(m))) / repetitions
                bootstrap += frechet_distance(summed(again), summed(drawn)) / repetitions
            print(
                f"{width}  {n}  {m}  {true:.4g}  {bootstrap:.4g} ({bootstrap / true:.2f})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500, help="on each side")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--floor", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.floor:
        print_floors(options.widths)
        return
    print("width  exact  ours (error)  s  sqrtm (error)  s")
    for width in options.widths:
        torch.manual_seed(0)
        scale = torch.arange(1, width + 1, dtype=torch.float64).rsqrt()
        x, y = (torch.randn(options.images, width).double() * scale for _ in range(2))
        y = (1.1 * y + 0.02).relu()
        truth, sums = exact(x, y), (summed(x), summed(y))
        ours, seconds = timed(lambda sums=sums: frechet_distance(*sums))
        theirs, their_seconds = timed(lambda x=x, y=y: by_sqrtm(x, y))
        print(
            f"{width}  {truth:.6g}  {ours / truth - 1:+.1e}  {seconds:.2f}"
            f"  {theirs / truth - 1:+.1e}  {their_seconds:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
