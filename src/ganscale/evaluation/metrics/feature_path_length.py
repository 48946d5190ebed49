"""Feature path length: how fast the features of an image change as its latent moves."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganscale import randomness
from ganscale.devices import float64_device
from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.gan.sampling import NotFiniteError, interpolation, run_generator
from ganscale.monitoring.progress import tracked

EPSILON = 1e-4  # between two points of a path whose ends are at 0 and 1
KEPT = (1, 99)  # the percentiles of the lengths between which they count


@METRICS.register("feature_path_length")
class FeaturePathLength(Metric):
    """The mean squared speed of the features along paths between latents.

    It is the perceptual path length of Karras et al. (2019, "A style-based generator architecture
    for generative adversarial networks", equation 2), with the evaluation's features in place of
    LPIPS, so that it is not comparable with published ones:

        E |f(G(z(t))) - f(G(z(t + ε)))|² / ε²,  t uniform in [0, 1),

    in which z(t) leads from one latent to another, along a sphere if they are normal. As in
    StyleGAN's code, lengths outside the 1st to 99th percentile do not count.
    """

    title = "path length (features)"
    chart = "Path length in features: lower is smoother"
    lower_is_better = True
    needs_unrounded = True
    optional = True

    def __call__(self, compared: Comparison) -> float:
        """Return the mean."""
        ranks = compared.sources.ranks
        of_ranks = ranks.agree(lambda: _measure_share(compared))
        return trimmed_mean(np.concatenate(of_ranks))


@torch.no_grad()
def _measure_share(compared: Comparison) -> NDArray[np.float64]:
    """Return the lengths of this rank's paths; raise `NotFiniteError` if one is not finite."""
    sources = compared.sources
    options = sources.experiment.evaluation
    rows, size = sources.share(options.samples, options.batch_size), options.batch_size
    parts = [range(i, min(i + size, rows.stop)) for i in range(rows.start, rows.stop, size)]
    lengths = [
        path_lengths(compared, part)
        for part in tracked(parts, len(rows), "measuring path lengths", len)
    ]
    measured: NDArray[np.float64] = torch.cat([torch.zeros(0), *lengths]).double().numpy()
    if not np.isfinite(measured).all():
        raise NotFiniteError
    return measured


def path_lengths(compared: Comparison, rows: range, epsilon: float = EPSILON) -> Tensor:
    """Return the lengths of the paths of these numbers, by ε²: (len(rows),), float64, on the host.

    Images are not rounded to pixels, in which a step of ε would not be seen. They are computed in
    full float32: for trained generators, its rounding and the size of ε changed the mean by less
    than 0.3 % (`docs/evaluation.md`).
    """
    from ganscale.evaluation.features.network import full_float32  # with all that makes features

    sources = compared.sources
    precise, seed = float64_device(sources.device), sources.experiment.seed
    start, end = (sources.latents(rows, f"path/{i}").to(precise).double() for i in (0, 1))
    t = randomness.uniform(seed, "path/t", 0, rows, (1,), precise).double()
    between = interpolation(sources.experiment.latent.distribution)
    latents = torch.cat([between(start, end, t), between(start, end, t + epsilon)])
    labels = tuple(label.repeat(2) for label in sources.labels(rows))
    with full_float32():
        images = run_generator(sources.generator, latents.float().to(sources.device), labels)
        features = sources.network.measure(images.float()).features
    here, there = features.to(precise).double().chunk(2)
    return ((here - there).square().sum(1) / epsilon**2).cpu()


def trimmed_mean(lengths: NDArray[np.float64]) -> float:
    """Return the mean of the lengths between two percentiles, both included."""
    low = np.percentile(lengths, KEPT[0], method="lower")
    high = np.percentile(lengths, KEPT[1], method="higher")
    return float(lengths[(low <= lengths) & (lengths <= high)].mean())
