"""A comparison of a generator's images with real digits, on any rank."""

import dataclasses

from torch import nn

from ganscale.engines.distributed import Ranks
from ganscale.evaluation.evaluator import Evaluator
from ganscale.evaluation.metrics.metric import Comparison


def comparison(evaluator: Evaluator, generator: nn.Module, ranks: Ranks) -> Comparison:
    """What a metric is given that needs the sources alone; the real images stand for both sides."""
    real = evaluator.real
    sources = dataclasses.replace(evaluator._sources(generator), ranks=ranks)
    features = (real.compared, real.compared)
    return Comparison(real.sums, real.sums, *features, sources.device, sources)
