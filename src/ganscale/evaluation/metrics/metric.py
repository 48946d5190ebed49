"""The base class of metrics, the comparison that they are computed from, and their registry.

To add a metric, write a file in this folder, or name a class in a file of your own in the
experiment: `evaluation.metrics: [my_metrics.py:MyMetric]`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ganscale.evaluation.metrics.sums import Sums
from ganscale.registry import Registry, is_subclass_of

if TYPE_CHECKING:  # scores are read without what makes features
    from ganscale.evaluation.sources import Sources

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
    sources: "Sources"
    """What the features were measured from, for a metric that needs more than the features."""
    known_of_real: dict[Any, Any] = field(default_factory=dict)
    """What `once_for_real` has computed; an evaluator gives it to all its comparisons."""
    _known: dict[Any, Any] = field(default_factory=dict)

    def once(self, compute: Callable[["Comparison"], V]) -> V:
        """Return `compute(self)`, which is computed only once for all metrics."""
        return _remembered(self._known, compute, self)

    def once_for_real(self, compute: Callable[["Comparison"], V]) -> V:
        """Return `compute(self)`, which depends on the real images alone.

        It is computed only once for all generators that are compared with them.
        """
        return _remembered(self.known_of_real, compute, self)

    def on_rank_0(self, compute: Callable[["Comparison"], V]) -> V:
        """Return what `compute(self)` gives on rank 0, which alone computes it, and only once.

        All ranks must call this; the others wait, however long it takes.
        """
        ranks = self.sources.ranks

        def act() -> list[V]:
            return [compute(self)] if ranks.is_main else []

        if compute not in self._known:
            self._known[compute] = ranks.agree_in_time(act)[0][0]
        found: V = self._known[compute]
        return found


def _remembered(
    known: dict[Any, Any], compute: Callable[[Comparison], V], compared: Comparison
) -> V:
    if compute not in known:
        known[compute] = compute(compared)
    found: V = known[compute]
    return found


class Metric(ABC):
    """One number that describes the generated images. All ranks compute it together.

    A metric that does not talk to other ranks is computed by each of them.
    """

    title: ClassVar[str] = ""
    """The title for people; if empty, the registered name."""
    chart: ClassVar[str] = ""
    """The heading of the report's chart; metrics with the same heading share a chart."""
    lower_is_better: ClassVar[bool | None] = False
    """None if neither is better; the metric then cannot decide which checkpoint is best."""
    needs_classes: ClassVar[bool] = False
    """True if it is defined only for features that know the dataset's own classes."""
    needs_logits: ClassVar[bool] = False
    """True if it is defined only for features that come with logits of some classes."""
    needs_labels: ClassVar[bool] = False
    """True if it is defined only for a conditional generator."""
    needs_unrounded: ClassVar[bool] = False
    """True if it needs features of images that are not rounded to pixels."""
    optional: ClassVar[bool] = False
    """True if it costs so much that it is computed only where `evaluation.metrics` names it."""

    @abstractmethod
    def __call__(self, compared: Comparison) -> float:
        """Return the number."""

    def details(self, compared: Comparison) -> dict[str, float]:
        """Return numbers that help to judge the value, by a name for people; none by default.

        They are recorded and shown beside the value, and decide nothing.
        """
        return {}


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
