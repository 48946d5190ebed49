"""Scores of a generator, by all ranks together."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.data.image_set import ImageSet
from ganscale.data.ranks import Ranks
from ganscale.data.reader import Reader
from ganscale.evaluation import metrics
from ganscale.evaluation.cache import Cache
from ganscale.evaluation.features import Features, open_features
from ganscale.evaluation.real import COMPARED, gathered, real_statistics
from ganscale.evaluation.samples import generate
from ganscale.evaluation.scores import Scores


class Evaluator:
    """Holds the feature network and what it says of the real set; `scores` judges a generator."""

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
        cache = Cache(experiment.data, images.fingerprint, fallback)
        self.network = open_features(experiment, images, reader, device, ranks, cache)
        self.real = real_statistics(self.network, images, reader, device, ranks, cache)
        self._real_set = images.description

    @torch.no_grad()
    def scores(self, generator: nn.Module) -> Scores:
        """All scores of `evaluation.samples` images; every rank calls it."""
        fake, compared = self._measure_made(generator)
        real = self.real.sums
        number = min(len(compared), len(self.real.compared))
        mean, deviation = metrics.kid(self.real.compared[:number], compared[:number])
        values = {
            "fid": metrics.fid(real, fake),
            "kid": mean,
            "kid_deviation": deviation,
            "inception_score": metrics.inception_score(fake),
            **metrics.neighbourhoods(
                self.real.compared.to(self._device), compared.to(self._device)
            ),
            "diversity": metrics.diversity(real, fake),
        }
        shares: list[float] = []
        if self.network.knows_the_set:
            values["class_entropy"] = metrics.class_entropy(fake)
            shares = (fake.histogram / fake.count).tolist()
        return Scores(
            values,
            self.network.description,
            self._experiment.evaluation.samples,
            int(real.count),
            self._real_set,
            self.real.floor,
            tuple(shares),
        )

    def _measure_made(self, generator: nn.Module) -> tuple[metrics.Sums, Tensor]:
        """Sums over all made images, and the features of the first of them, on the host."""
        experiment, ranks = self._experiment, self._ranks
        options = experiment.evaluation
        share = -(-options.samples // ranks.world_size)
        first = min(ranks.rank * share, options.samples)
        last = min(first + share, options.samples)
        sums: metrics.Sums | None = None
        compared: list[Tensor] = []
        for images in generate(
            generator,
            experiment.latent,
            experiment.seed,
            "evaluation",
            range(first, last),
            options.batch_size,
            self._device,
            self._labels,
        ):
            measured = self.network.measure(images.to(self._device))
            sums = sums or metrics.Sums.zero(measured)
            sums.add(measured)
            compared.append(measured.features[: max(0, COMPARED - first)])
            first += len(images)
        width, classes = self.real.compared.shape[1], len(self.real.halves[0].histogram)
        nothing = Features(
            torch.zeros(0, width, device=self._device), torch.zeros(0, classes, device=self._device)
        )
        sums = sums or metrics.Sums.zero(nothing)
        sums.add_up_over_ranks()
        kept = gathered(torch.cat(compared or [nothing.features]))
        on_host = metrics.Sums(**{key: value.cpu() for key, value in sums.tensors().items()})
        return on_host, kept.cpu()

    def _labels(self, rows: range) -> tuple[Tensor, ...]:
        """Classes of some samples, as often as in the real set."""
        if self._experiment.data.classes is None:
            return ()
        counts = self.real.label_counts.double()
        ends = (counts.cumsum(0) / counts.sum()).numpy()
        unit = randomness.uniform(self._experiment.seed, "evaluation labels", 0, rows, (1,))
        labels = np.searchsorted(ends, unit[:, 0].numpy(), side="right")
        return (torch.from_numpy(labels).clamp(max=len(counts) - 1),)

    def nearest(self, images: Tensor, number: int) -> Tensor:
        """For each of some uint8 images (N, C, H, W) its nearest real ones: (N, number, C, H, W).

        Among the real images whose features are kept: up to 10,000 spread over the set.
        """
        features = self.network.measure(images.to(self._device)).features.cpu()
        distances = torch.cdist(features.double(), self.real.compared.double())
        places = distances.topk(number, dim=1, largest=False).indices
        found = self._reader.read(self.real.indices[places.flatten()].numpy())
        return found.images.view(len(images), number, *images.shape[1:])
