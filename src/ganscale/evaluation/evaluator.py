"""The evaluator, with which all ranks together score a generator."""

import logging
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.readers import Reader
from ganscale.engines.distributed import Ranks, gather_objects, gather_rows
from ganscale.evaluation.feature_cache import Cache
from ganscale.evaluation.features.network import FeatureNetwork, Features, measure, open_features
from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.evaluation.metrics.sums import Sums
from ganscale.evaluation.real_set import COMPARED, RealSet
from ganscale.evaluation.samples import drawn_labels
from ganscale.evaluation.scores import Scores
from ganscale.gan.sampling import NotFiniteError, generate
from ganscale.monitoring.progress import tracked
from ganscale.registry import short_name

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
        self._reader = reader
        cache = Cache(experiment.data, images, fallback)
        self.network = open_features(experiment, images, reader, device, cache)
        self._metrics = _build_metrics(experiment, self.network)
        real_set = RealSet(self.network, images, reader, device, ranks, cache)
        self.real = real_set.statistics
        self.perfect_fid = real_set.perfect_fid(experiment.evaluation.samples)
        self._real_samples = real_set.samples
        self._real_set = images.description

    @torch.no_grad()
    def scores(self, generator: nn.Module) -> Scores:
        """Return all scores of `evaluation.samples` generated images. All ranks must call this.

        Raises `GanscaleError` if the images or a score are NaN or infinite.
        """
        fake, fake_features = self._measure_generated(generator)
        compared = Comparison(self.real.sums, fake, self.real.compared, fake_features, self._device)
        values: dict[str, float] = {}
        lower_is_better: dict[str, bool] = {}
        for name, metric in tracked(self._metrics.items(), len(self._metrics), "computing metrics"):
            value = metric(compared)
            if not math.isfinite(value):
                log.warning("the metric %s is %s: it is left out of the scores", name, value)
                continue
            values[name] = value
            if metric.lower_is_better is not None:
                lower_is_better[name] = metric.lower_is_better
        shares: list[float] = []
        if self.network.knows_the_classes:
            shares = (fake.histogram / fake.count).tolist()
        return Scores(
            values,
            self.network.description,
            self.network.checksum,
            self._experiment.evaluation.samples,
            self._real_samples,
            self._real_set,
            self.perfect_fid,
            tuple(shares),
            self.network.key,
            lower_is_better,
        )

    def _measure_generated(self, generator: nn.Module) -> tuple[Sums, Tensor]:
        """Return sums over all generated images, and the features of the first; in host memory."""
        experiment, ranks = self._experiment, self._ranks
        options = experiment.evaluation
        share = -(-options.samples // ranks.world_size)
        first = min(ranks.rank * share, options.samples)
        rows = range(first, min(first + share, options.samples))
        nothing = Features(
            torch.zeros(0, self.real.compared.shape[1], device=self._device),
            torch.zeros(0, len(self.real.sums.histogram), device=self._device),
        )
        sums, compared = Sums.zero(nothing), [nothing.features]
        problem: NotFiniteError | None = None
        generated = generate(
            generator, self._latents, self._labels, rows, options.batch_size, experiment.data.bits
        )
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

    def _latents(self, rows: range) -> Tensor:
        latent, seed = self._experiment.latent, self._experiment.seed
        return randomness.latents(latent, seed, "evaluation", 0, rows, self._device)

    def _labels(self, rows: range) -> tuple[Tensor, ...]:
        """Return the classes of some samples, with the frequencies that training has."""
        if self._experiment.data.classes is None:
            return ()
        shares, seed = self.real.class_weights, self._experiment.seed
        return (drawn_labels(shares, seed, "evaluation labels", 0, rows, self._device),)

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
    """Return each metric that these features allow, by its short name."""
    names = [*METRICS.built_in(), *experiment.evaluation.metrics]
    metrics = {short_name(name): METRICS.get(name)() for name in names}
    return {
        name: metric
        for name, metric in metrics.items()
        if network.knows_the_classes or not metric.needs_classes
    }
