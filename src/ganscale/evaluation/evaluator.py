"""The evaluator, with which all ranks together score a generator."""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganscale.config import Experiment
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.readers import Reader
from ganscale.engines.distributed import Ranks, gather_objects, gather_rows
from ganscale.errors import GanscaleError
from ganscale.evaluation.feature_cache import Cache
from ganscale.evaluation.features.network import FeatureNetwork, Features, measure, open_features
from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.evaluation.metrics.sums import Sums
from ganscale.evaluation.real_set import COMPARED, RealSet
from ganscale.evaluation.scores import Evaluated, Scores, basis
from ganscale.evaluation.sources import Sources
from ganscale.gan.sampling import NotFiniteError
from ganscale.monitoring.progress import tracked
from ganscale.registry import log_name

log = logging.getLogger("ganscale")


class Evaluator:
    """Holds the feature network and the real dataset's statistics; `scores` scores a generator."""

    def __init__(
        self,
        experiment: Experiment,
        images: ImageSet,
        reader: Reader,
        device: torch.device,
        ranks: Ranks,
        fallback: Path,
    ):
        self._experiment = experiment
        self._device = device
        self._ranks = ranks
        self._images = images
        self._reader = reader
        self._cache = cache = Cache(experiment.data, images, fallback)
        self.network = open_features(experiment, images, reader, device, cache)
        self._metrics = _build_metrics(experiment, self.network)
        real_set = RealSet(self.network, images, reader, device, ranks, cache)
        self.real = real_set.statistics
        self.perfect_fid = real_set.perfect_fid(experiment.evaluation.samples)
        self._real_samples = real_set.samples
        if real_set.samples < (width := self.real.compared.shape[1]):
            log.warning(
                "%d real images are fewer than the %d features: FID is biased, and perfect samples "
                "would get more than it says; judge by KID, or by features of fewer numbers",
                real_set.samples,
                width,
            )
        self._known_of_real: dict[Any, Any] = {}

    def has_scored(self, evaluation: Evaluated) -> bool:
        """Return whether an evaluation read back has all that one by this evaluator would have."""
        alike = {
            "features": self.network.description,
            "features_checksum": self.network.checksum,
            "samples": self._experiment.evaluation.samples,
            "real_set": self._images.description,
        }
        return (
            basis(evaluation) == basis(alike)
            and self._metrics.keys() <= evaluation["values"].keys()
        )

    @torch.no_grad()
    def scores(self, generator: nn.Module) -> Scores:
        """Return all scores of `evaluation.samples` generated images. All ranks must call this.

        Raises `GanscaleError` if the images or a score are NaN or infinite.
        """
        sources = self._sources(generator)
        fake, fake_features = self._measure_generated(sources)
        compared = Comparison(
            self.real.sums,
            fake,
            self.real.compared,
            fake_features,
            self._device,
            sources,
            self._known_of_real,
        )
        values: dict[str, float] = {}
        lower_is_better: dict[str, bool] = {}
        details: dict[str, dict[str, float]] = {}
        for name, metric in tracked(self._metrics.items(), len(self._metrics), "computing metrics"):
            value = metric(compared)
            if not math.isfinite(value):
                log.warning("the metric %s is %s: it is left out of the scores", name, value)
                continue
            values[name] = value
            if metric.lower_is_better is not None:
                lower_is_better[name] = metric.lower_is_better
            if beside := metric.details(compared):
                details[name] = beside
        shares: list[float] = []
        if self.network.knows_the_classes:
            shares = (fake.histogram / fake.count).tolist()
        return Scores(
            values,
            self.network.description,
            self.network.checksum,
            self._experiment.evaluation.samples,
            self._real_samples,
            self._images.description,
            self.perfect_fid,
            tuple(shares),
            self.network.key,
            lower_is_better,
            details,
        )

    def _sources(self, generator: nn.Module) -> Sources:
        return Sources(
            self._experiment,
            generator,
            self.network,
            self._images,
            self._reader,
            self.real.class_weights,
            self._cache,
            self._device,
            self._ranks,
        )

    def _measure_generated(self, sources: Sources) -> tuple[Sums, Tensor]:
        """Return sums over all generated images, and the features of the first; in host memory."""
        options = self._experiment.evaluation
        rows = sources.share(options.samples, options.batch_size)
        first = rows.start
        nothing = Features(
            torch.zeros(0, self.real.compared.shape[1], device=self._device),
            torch.zeros(0, len(self.real.sums.histogram), device=self._device),
        )
        sums, compared = Sums.zero(nothing), [nothing.features]
        problem: NotFiniteError | None = None
        generated = sources.generated(rows)
        try:
            for images in tracked(generated, len(rows), "scoring generated images", len):
                measured = measure(self.network, images, self._device)
                sums.add(measured)
                compared.append(measured.features[: max(0, COMPARED - first)])
                first += len(images)
        except NotFiniteError as error:
            problem = error
        if any(gather_objects(problem is not None)):
            raise problem or NotFiniteError()
        sums.add_up_over_ranks()
        return sums.on_host(), gather_rows(torch.cat(compared)).cpu()

    def nearest(self, images: Tensor, number: int) -> Tensor:
        """Return the nearest real images to images (N, C, H, W): (N, number, C, H, W).

        The search covers the real images whose features are kept: up to 10,000, spread evenly.
        """
        features = measure(self.network, images, self._device).features.cpu()
        distances = torch.cdist(features.double(), self.real.compared.double())
        places = distances.topk(number, dim=1, largest=False).indices
        found = self._reader.read(self.real.indices[places.flatten()].numpy())
        return found.images.view(len(images), number, *images.shape[1:])


def _build_metrics(experiment: Experiment, network: FeatureNetwork) -> dict[str, Metric]:
    """Return each metric that these features allow, by its name in the log.

    Raises `GanscaleError` for a metric that was asked for and that the generator does not allow;
    warns if the features do not allow the one that decides which checkpoint is best.
    """
    always = [name for name in METRICS.built_in() if not METRICS.get(name).optional]
    names = [*always, *experiment.evaluation.metrics]
    metrics = {log_name(name): METRICS.get(name)() for name in names}
    for name, metric in metrics.items():
        if metric.needs_labels and experiment.data.classes is None:
            raise GanscaleError(
                f"evaluation.metrics: {name} needs a generator that is asked for classes; set "
                "data.classes, or leave it out",
                every_rank=True,
            )
        if metric.needs_unrounded and not network.measures_unrounded:
            raise GanscaleError(
                f"evaluation.metrics: {name} needs images that are not rounded to pixels, which "
                f"{network.key} features are not made for (measures_unrounded); choose other "
                "evaluation.features, or leave it out",
                every_rank=True,
            )
    allowed = {
        name: metric
        for name, metric in metrics.items()
        if (network.knows_the_classes or not metric.needs_classes)
        and (network.classifies or not metric.needs_logits)
    }
    best = log_name(experiment.evaluation.best)
    if best not in allowed:
        log.warning(
            "evaluation.best=%s: %s features know no classes, without which it is not computed: no "
            "checkpoint is the best one by these scores",
            best,
            network.key,
        )
    return allowed
