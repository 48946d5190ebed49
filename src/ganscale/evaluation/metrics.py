"""Scores of generated images from features: sums that ranks add up, comparisons of neighbours.

Features are (N, width); everything is computed in float64.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from ganscale.engines.distributed import all_reduce
from ganscale.errors import GanscaleError
from ganscale.evaluation.features.network import Features
from ganscale.randomness import permutation

KID_SUBSET = 1000  # images of one estimate (Bińkowski et al. 2018)
NEIGHBOURS = 5  # k of precision, recall, density and coverage (Naeem et al. 2020)
CHUNK = 1000  # rows of a distance matrix at a time


@dataclass
class Sums:
    """What of many images can be added up over batches and ranks.

    An image counts with a weight, which is 1 unless some are to count for more.
    """

    count: Tensor
    """() sum of the weights: the number of images."""
    squares: Tensor
    """() sum of the squared weights."""
    features: Tensor
    """(width,)"""
    products: Tensor
    """(width, width) of x xᵀ."""
    probabilities: Tensor
    """(classes,) of the softmax."""
    negentropy: Tensor
    """() of Σ p log p."""
    histogram: Tensor
    """(classes,) of how often each class is the likeliest."""

    @classmethod
    def zero(cls, like: Features) -> "Sums":
        """Of no images."""
        width, classes = like.features.shape[1], like.logits.shape[1]
        shapes = ((), (), (width,), (width, width), (classes,), (), (classes,))
        device = like.features.device
        return cls(*(torch.zeros(s, dtype=torch.float64, device=device) for s in shapes))

    def add(self, measured: Features, weights: Tensor | None = None) -> None:
        """Count these images in, with weights (N,) float64 if given."""
        features, logs = measured.features.double(), measured.logits.double().log_softmax(1)
        if weights is None:
            weights = torch.ones(len(features), dtype=torch.float64, device=features.device)
        self.count += weights.sum()
        self.squares += weights.square().sum()
        self.features += weights @ features
        self.products += (weights[:, None] * features).T @ features
        self.probabilities += weights @ logs.exp()
        self.negentropy += weights @ (logs.exp() * logs).sum(1)
        self.histogram.index_add_(0, logs.argmax(1), weights)

    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        return dict(vars(self))

    def on_host(self) -> "Sums":
        """The same in the host's memory."""
        return Sums(**{key: value.cpu() for key, value in self.tensors().items()})

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """Of the features; the covariance is the unbiased one, divided by N - 1 without weights."""
        mean = self.features / self.count
        covariance = self.products - self.count * torch.outer(mean, mean)
        return mean, covariance / (self.count - self.squares / self.count)

    def add_up_over_ranks(self) -> None:
        """Make these the sums over all ranks; every rank calls it."""
        for tensor in self.tensors().values():
            all_reduce(tensor)


def fid(real: Sums, fake: Sums) -> float:
    """Fréchet distance of two normal distributions of features (Heusel et al. 2017).

    Raises `GanscaleError` where it is no number, which nothing may take for a score.
    """
    moments = (*real.mean_and_covariance(), *fake.mean_and_covariance())
    is_finite = all(bool(torch.isfinite(moment).all()) for moment in moments)
    distance = float(_compute_fid(*moments)) if is_finite else math.nan
    if not math.isfinite(distance):
        raise GanscaleError(
            f"FID is {distance} for {int(fake.count):,} generated images against "
            f"{round(float(real.count)):,} real ones: it needs at least two images on each side, "
            "and features that are finite numbers",
            every_rank=True,
        )
    return max(0.0, distance)  # rounding may leave equal sets a little below


def kid(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Unbiased squared MMD with a cubic kernel: mean and deviation over disjoint subsets.

    The subsets are drawn at random, the same ones every time: a set may be stored class by class.
    """
    subset = min(KID_SUBSET, len(real), len(fake))
    number = min(len(real), len(fake)) // subset
    real, fake = _permuted(real, "real"), _permuted(fake, "generated")
    estimates = torch.stack(
        [
            poly_mmd(real[i : i + subset].double(), fake[i : i + subset].double())
            for i in range(0, number * subset, subset)
        ]
    )
    return float(estimates.mean()), float(estimates.std(correction=0))


def _permuted(features: Tensor, side: str) -> Tensor:
    rows = torch.from_numpy(permutation(0, f"kid/{side}", 0, len(features)))
    return features[rows.to(features.device)]


def inception_score(fake: Sums) -> float:
    """Exponential of the information an image gives on its class (Salimans et al. 2016).

    Over all images at once, where papers take the mean over ten parts, which lie a little higher
    or lower by chance.
    """
    mean = fake.probabilities / fake.count
    information = fake.negentropy / fake.count - torch.special.xlogy(mean, mean).sum()
    return float(information.exp())


def neighbourhoods(real: Tensor, fake: Tensor) -> dict[str, float]:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    An image's neighbourhood reaches to its 5th nearest neighbour in its own set.
    """
    real, fake = real.double(), fake.double()
    real_reach, fake_reach = _reach(real), _reach(fake)
    in_real = torch.zeros(len(fake), dtype=torch.long, device=fake.device)
    recalled, covered = [], []
    for start in range(0, len(real), CHUNK):
        part = slice(start, start + CHUNK)
        distances = torch.cdist(real[part], fake)
        inside = distances < real_reach[part, None]
        in_real += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((distances < fake_reach).any(1))
    return {
        "precision": float((in_real > 0).double().mean()),
        "recall": float(torch.cat(recalled).double().mean()),
        "density": float(in_real.double().mean() / NEIGHBOURS),
        "coverage": float(torch.cat(covered).double().mean()),
    }


def _reach(features: Tensor) -> Tensor:
    """Distance of each to its k-th nearest other."""
    k = min(NEIGHBOURS + 1, len(features))
    chunks = features.split(CHUNK)
    return torch.cat([torch.cdist(c, features).kthvalue(k, dim=1).values for c in chunks])


def diversity(real: Sums, fake: Sums) -> float:
    """How far generated images are from each other, as a share of real ones (1: as far)."""

    def spread(sums: Sums) -> Tensor:
        return sums.products.trace() / sums.count - (sums.features / sums.count).square().sum()

    return float((spread(fake) / spread(real)).clamp(min=0).sqrt())


def class_entropy(fake: Sums) -> float:
    """Entropy of the generated classes, as a share of that of equal ones (1: all equally often)."""
    shares = fake.histogram / fake.count
    entropy = -torch.special.xlogy(shares, shares).sum()
    return float(entropy / torch.log(torch.tensor(float(len(shares)))))
