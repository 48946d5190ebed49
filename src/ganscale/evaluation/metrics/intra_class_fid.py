"""iFID, the mean over classes of the FID between generated and real images of a class."""

import logging

import numpy as np
import torch

from ganscale.devices import float64_device
from ganscale.errors import GanscaleError
from ganscale.evaluation.distribution import Distribution
from ganscale.evaluation.metrics.fid import frechet_distance
from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.evaluation.metrics.sums import Sums
from ganscale.monitoring.progress import tracked

BATCH_SIZE = 500  # real images
KEPT_BYTES = 2 << 30  # more sums over real images than that are computed at each evaluation

log = logging.getLogger("ganscale")


@METRICS.register("intra_class_fid")
class IntraClassFID(Metric):
    """The mean over classes of the FID between generated and real images of that class.

    It is the intra FID of Miyato and Koyama (2018, "cGANs with projection discriminator"). A
    class's generated images are those that were asked for with its label, whatever they show.
    """

    title = "iFID"
    chart = "FID within classes, mean: lower is better"
    lower_is_better = True
    needs_labels = True
    optional = True

    def __call__(self, compared: Comparison) -> float:
        """Return the mean."""
        return float(np.mean(list(compared.once(_of_classes).values())))

    def details(self, compared: Comparison) -> dict[str, float]:
        """Return the FID of each class."""
        return compared.once(_of_classes)


@torch.no_grad()
def _of_classes(compared: Comparison) -> dict[str, float]:
    """Return the FID of each class by its name; every rank computes some classes as a whole."""
    sources = compared.sources
    names, ranks = sources.images.classes, sources.ranks
    number = _images_of_a_class(compared)
    if number < 2:
        raise GanscaleError(
            f"evaluation.samples={sources.experiment.evaluation.samples} gives {number} generated "
            f"images for each of {len(names):,} classes, and intra_class_fid needs at least two",
            every_rank=True,
        )
    members = compared.once_for_real(_members)
    compared.once_for_real(_warn_of_few)
    mine = range(len(names))[ranks.rank :: ranks.world_size]

    @torch.no_grad()
    def compute() -> dict[int, float]:
        found: dict[int, float] = {}
        for label in tracked(mine, len(mine), "FID of each class"):
            if len(members[label]) >= 2:
                real = _sums_of_real(compared, label)
                found[label] = frechet_distance(real, _sums_of_generated(compared, label, number))
        return found

    of_all = {label: v for part in ranks.agree_in_time(compute) for label, v in part.items()}
    return {names[label]: of_all[label] for label in sorted(of_all)}


def _members(compared: Comparison) -> list[np.ndarray]:
    """Return the numbers of the real images of each class that training draws from."""
    images = compared.sources.images
    labels = images.labels()
    return [np.flatnonzero(labels == label) for label in range(len(images.classes))]


def _images_of_a_class(compared: Comparison) -> int:
    """Return how many images of each class are generated."""
    sources = compared.sources
    return sources.experiment.evaluation.samples // len(sources.images.classes)


def _warn_of_few(compared: Comparison) -> None:
    """Warn of classes whose covariance cannot be known from so few images."""
    generated, width = _images_of_a_class(compared), compared.real_features.shape[1]
    if generated < width:
        log.warning(
            "intra_class_fid: %s generated images of a class for %s features: their covariance is "
            "singular, and the distance too large. Compare it only with that of as many images, or "
            "raise evaluation.samples",
            f"{generated:,}",
            f"{width:,}",
        )
    real = list(map(len, compared.once_for_real(_members)))
    few, missing = sum(n < width for n in real), sum(n < 2 for n in real)
    if few:
        log.warning(
            "intra_class_fid: %d of %d classes have fewer real images than there are features (%s)"
            "%s",
            few,
            len(real),
            f"{width:,}",
            f"; {missing} of them have fewer than two, and are left out" if missing else "",
        )


def _sums_of_generated(compared: Comparison, label: int, number: int) -> Sums:
    """Return sums over so many generated images of a class."""
    from ganscale.evaluation.features.network import measure  # with all that makes features
    from ganscale.gan.sampling import generate

    sources, experiment = compared.sources, compared.sources.experiment
    generated = generate(
        sources.generator,
        lambda rows: sources.latents(rows, "classes", label),
        lambda rows: (torch.full((len(rows),), label, device=sources.device),),
        range(number),
        experiment.evaluation.batch_size,
        experiment.data.bits,
    )
    sums = _zero(compared)
    for images in generated:
        sums.add(measure(sources.network, images, sources.device))
    return sums


def _sums_of_real(compared: Comparison, label: int) -> Sums:
    """Return weighted sums over the real images of a class, which are kept if there is room."""
    kept = compared.once_for_real(_kept_sums)
    found = kept.get(label)
    if found is None:
        found = _measure_real(compared, label)
        classes = -(-len(compared.sources.images.classes) // compared.sources.ranks.world_size)
        if classes * found.products.nbytes <= KEPT_BYTES:
            kept[label] = found
    return found


def _kept_sums(compared: Comparison) -> dict[int, Sums]:
    return {}


def _measure_real(compared: Comparison, label: int) -> Sums:
    from ganscale.evaluation.features.network import measure

    sources, sums = compared.sources, _zero(compared)
    distribution = Distribution(sources.images.strata())
    numbers = compared.once_for_real(_members)[label]
    for start in range(0, len(numbers), BATCH_SIZE):
        part = numbers[start : start + BATCH_SIZE]
        images = sources.reader.read(part).images
        weights = distribution.weights(part).to(sums.count.device)
        sums.add(measure(sources.network, images, sources.device), weights)
    return sums


def _zero(compared: Comparison) -> Sums:
    """Return sums over no images, as wide as those of the comparison."""
    device = float64_device(compared.device)
    return Sums(
        **{name: torch.zeros_like(t, device=device) for name, t in compared.fake.tensors().items()}
    )
