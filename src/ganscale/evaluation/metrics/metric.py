"""What a metric is, what it is computed from, and the registry of all of them.

To add a metric, write a file in this folder, or name a class in a file of your own in the
experiment: `evaluation.metrics: [my_metrics.py:MyMetric]`.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ganscale.evaluation.metrics.sums import Sums
from ganscale.registry import Registry

V = TypeVar("V")


@dataclass
class Comparison:
    """Real and generated images, as the features of a network show them."""

    real: Sums
    """Of the whole real dataset, each image with its weight; in host memory."""
    fake: Sums
    """Of all generated images; in host memory."""
    real_features: Tensor
    """(up to 10,000, width) features of real images, spread evenly over the dataset."""
    fake_features: Tensor
    """(up to 10,000, width) features of the first generated images."""
    device: torch.device
    """Where large computations may run."""
    _known: dict[Any, Any] = field(default_factory=dict)

    def once(self, compute: Callable[["Comparison"], V]) -> V:
        """Return what `compute` gives for this comparison; computed once for all metrics."""
        if compute not in self._known:
            self._known[compute] = compute(self)
        found: V = self._known[compute]
        return found


class Metric(ABC):
    """One number that says something of generated images. Every rank computes it."""

    title: ClassVar[str] = ""
    """What people call it; its name where this is empty."""
    chart: ClassVar[str] = ""
    """The heading of the report's chart that shows it; charts of one heading are one."""
    lower_is_better: ClassVar[bool | None] = False
    """None where neither is better, so that it does not say which checkpoint is the best."""
    needs_classes: ClassVar[bool] = False
    """Whether it is defined only where the features tell the dataset's own classes."""

    @abstractmethod
    def __call__(self, compared: Comparison) -> float:
        """Return the number."""


METRICS = Registry[type[Metric]](
    "metric",
    "ganscale.metrics",
    wanted="a class derived from ganscale.evaluation.metrics.metric.Metric that defines __call__",
    accepts=lambda v: inspect.isclass(v) and issubclass(v, Metric) and not inspect.isabstract(v),
    modules=(  # FID and KID are shown first
        "ganscale.evaluation.metrics.fid",
        "ganscale.evaluation.metrics.kid",
        "ganscale.evaluation.metrics",
    ),
)
