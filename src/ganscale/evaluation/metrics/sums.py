"""Statistics of the features of many images that batches and ranks add up."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ganscale.engines.distributed import all_reduce
from ganscale.evaluation.features.network import Features


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
