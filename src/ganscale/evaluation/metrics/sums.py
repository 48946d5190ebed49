"""Sums over the features of many images, which are added up over batches and ranks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganscale.devices import float64_device
from ganscale.engines.distributed import all_reduce

if TYPE_CHECKING:  # scores are read without what makes features
    from ganscale.evaluation.features.network import Features


@dataclass
class Sums:
    """Weighted sums over images, float64; without weights, each image counts as 1."""

    count: Tensor
    """The sum of the weights, (): without weights, the number of images."""
    squares: Tensor
    """The sum of the squared weights, ()."""
    features: Tensor
    """The sum of the features x, (width,)."""
    products: Tensor
    """The sum of x xᵀ, (width, width)."""
    probabilities: Tensor
    """The sum of the class probabilities p, (classes,)."""
    negentropy: Tensor
    """The sum of Σ p log p, ()."""
    histogram: Tensor
    """How often each class is the most probable one, (classes,)."""

    @classmethod
    def zero(cls, like: "Features") -> "Sums":
        """Return the sums over no images, with the widths of `like`.

        They are on its device, or in host memory if that does not compute in float64.
        """
        width, classes = like.features.shape[1], like.logits.shape[1]
        shapes = ((), (), (width,), (width, width), (classes,), (), (classes,))
        device = float64_device(like.features.device)
        return cls(*(torch.zeros(s, dtype=torch.float64, device=device) for s in shapes))

    def add(self, measured: "Features", weights: Tensor | None = None) -> None:
        """Add these images, with weights (N,), float64, on the sums' device, if given."""
        measured = measured.to(self.count.device)
        features, logs = measured.features.double(), measured.logits.double().log_softmax(1)
        if weights is None:
            weights = torch.ones(len(features), dtype=torch.float64, device=features.device)
        self.count += weights.sum()
        self.squares += weights.square().sum()
        self.features += weights @ features
        self.products += (weights[:, None] * features).T @ features
        if not len(self.histogram):  # the network knows no classes
            return
        self.probabilities += weights @ logs.exp()
        self.negentropy += weights @ (logs.exp() * logs).sum(1)
        self.histogram.index_add_(0, logs.argmax(1), weights)

    def tensors(self) -> dict[str, Tensor]:
        """Return the sums by name."""
        return dict(vars(self))

    def on_host(self) -> "Sums":
        """Return the same sums in host memory."""
        return Sums(**{key: value.cpu() for key, value in self.tensors().items()})

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the unbiased covariance of the features.

        Without weights, the covariance is the one divided by N - 1.
        """
        mean = self.features / self.count
        covariance = self.products - self.count * torch.outer(mean, mean)
        return mean, covariance / (self.count - self.squares / self.count)

    def add_up_over_ranks(self) -> None:
        """Replace these sums by those over all ranks. All ranks must call this."""
        for tensor in self.tensors().values():
            all_reduce(tensor)
