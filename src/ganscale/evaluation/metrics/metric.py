"""The base class of metrics, the comparison that they are computed from, and their registry.

To add a metric, write a file in this folder, or name a class in a file of your own in the
experiment: `evaluation.metrics: [my_metrics.py:MyMetric]`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ganscale.evaluation.metrics.sums import Sums
from ganscale.registry import Registry, is_subclass_of

V = TypeVar("V")


@dataclass
class Comparison:
    """The features of real and generated images, as sums and as samples."""

    real: Sums
    """Sums over the whole real dataset, each image with its weight; in host memory."""
    fake: Sums
    """Sums over all generated images; in host memory."""
    real_features: Tensor
    """Features of real images, spread evenly over the dataset: (up to 10,000, width)."""
    fake_features: Tensor
    """Features of the first generated images: (up to 10,000, width)."""
    device: torch.device
    """The device for large computations."""
    _known: dict[Any, Any] = field(default_factory=dict)

    def once(self, compute: Callable[["Comparison"], V]) -> V:
        """Return `compute(self)`, which is computed only once for all metrics."""
        if compute not in self._known:
            self._known[compute] = compute(self)
        found: V = self._known[compute]
        return found


class Metric(ABC):
    """One number that describes the generated images. Every rank computes it."""

    title: ClassVar[str] = ""
    """The title for people; if empty, the registered name."""
    chart: ClassVar[str] = ""
    """The heading of the report's chart; metrics with the same heading share a chart."""
    lower_is_better: ClassVar[bool | None] = False
    """None if neither is better; the metric then cannot decide which checkpoint is best."""
    needs_classes: ClassVar[bool] = False
    """True if it is defined only for features that know the dataset's own classes."""

    @abstractmethod
    def __call__(self, compared: Comparison) -> float:
        """Return the number."""


METRICS = Registry[type[Metric]](
    "metric",
    "ganscale.metrics",
    wanted="a class derived from ganscale.evaluation.metrics.metric.Metric that defines __call__",
    accepts=is_subclass_of(Metric),
    modules=(  # to show FID and KID first
        "ganscale.evaluation.metrics.fid",
        "ganscale.evaluation.metrics.kid",
        "ganscale.evaluation.metrics",
    ),
)
