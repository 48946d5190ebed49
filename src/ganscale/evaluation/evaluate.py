"""FID of a generator, computed by all ranks together from sums alone."""

import logging
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from ganscale.config import Experiment
from ganscale.data.image_set import ImageSet
from ganscale.data.loader import Ranks
from ganscale.data.order import ShuffledOrder
from ganscale.data.reader import Reader
from ganscale.errors import GanscaleError
from ganscale.evaluation.features import Classifier, train_classifier
from ganscale.evaluation.samples import generate

CACHE = "features-v1.safetensors"  # the version changes with the classifier
REAL_SUMS = ("real_features_sum", "real_features_cov_sum", "real_features_num_samples")

log = logging.getLogger("ganscale")


class Evaluator:
    """Holds the classifier and the real set's statistics; `fid` scores a generator.

    Both are cached beside the packed set, or in `fallback` where that cannot be written.
    """

    def __init__(
        self,
        experiment: Experiment,
        images: ImageSet,
        reader: Reader,
        device: torch.device,
        ranks: Ranks,
        fallback: Path,
    ):
        if len(images.classes) < 2:
            raise GanscaleError(
                f"{experiment.data.path}: has no labels, and the features that FID compares come "
                "from a classifier of the set's classes; pack it from class folders, or leave "
                "evaluation.every empty"
            )
        self._experiment = experiment
        self._images = images
        self._reader = reader
        self._device = device
        self._ranks = ranks
        self._caches = [Path(experiment.data.path) / CACHE, fallback / CACHE]
        self._classifier = self._make_classifier()
        self._metric = FrechetInceptionDistance(
            feature=self._classifier, reset_real_features=False
        ).to(device)
        self._measure_real()

    def fid(self, generator: nn.Module) -> float:
        """Fréchet distance of features, real against generated images (Heusel et al. 2017)."""
        evaluation, ranks = self._experiment.evaluation, self._ranks
        share = -(-evaluation.samples // ranks.world_size)
        rows = range(
            min(ranks.rank * share, evaluation.samples),
            min((ranks.rank + 1) * share, evaluation.samples),
        )
        self._metric.reset()
        for images in generate(
            generator,
            self._experiment.latent,
            self._experiment.seed,
            "evaluation",
            rows,
            evaluation.batch_size,
            self._device,
        ):
            self._metric.update(images.to(self._device), real=False)
        return float(self._metric.compute())

    def _make_classifier(self) -> Classifier:
        """The cached classifier; rank 0 trains it where there is none."""
        shape, classes = self._images.image_shape, len(self._images.classes)
        if self._ranks.rank == 0 and self._cached() is None:
            sizes = [shard.samples for m in self._images.manifests for shard in m.shards]
            order = ShuffledOrder(0, sizes, self._experiment.data.block_shards)
            trained = train_classifier(self._reader, order, shape, classes, self._device, log.info)
            self._save(dict(trained.state_dict()))
        self._ranks.barrier()
        cached = self._cached()
        if cached is None:
            raise GanscaleError(f"{self._caches[-1]}: the feature classifier cannot be read back")
        classifier = Classifier(shape, classes)
        own = {k: v for k, v in cached.items() if k not in REAL_SUMS}
        classifier.load_state_dict(own)
        return classifier.to(self._device).eval().requires_grad_(False)

    def _measure_real(self) -> None:
        """Feature sums of the whole real set, on rank 0; zero on others, since ranks are added."""
        cached = self._cached() or {}
        if REAL_SUMS[0] not in cached:
            share = -(-self._images.samples // self._ranks.world_size)
            start = self._ranks.rank * share
            stop = min(start + share, self._images.samples)
            for first in range(start, stop, 500):
                batch = self._reader.read(np.arange(first, min(first + 500, stop)))
                self._metric.update(batch.images.to(self._device), real=True)
            sums = {name: getattr(self._metric, name) for name in REAL_SUMS}
            if self._ranks.world_size > 1:
                for tensor in sums.values():
                    torch.distributed.all_reduce(tensor)
            if self._ranks.rank == 0:
                self._save({**self._classifier.state_dict(), **sums})
            self._ranks.barrier()
            cached = sums
        for name in REAL_SUMS:
            total = cached[name].to(self._device)
            setattr(self._metric, name, total if self._ranks.rank == 0 else total * 0)

    def _cached(self) -> dict[str, Tensor] | None:
        for path in self._caches:
            try:
                with safe_open(path, "pt") as file:
                    if file.metadata() == {"set": self._images.fingerprint}:
                        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            except (OSError, SafetensorError):
                continue
        return None

    def _save(self, tensors: dict[str, Tensor]) -> None:
        host = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        for path in self._caches:
            try:
                temporary = path.with_name(f".{path.name}")
                save_file(host, temporary, metadata={"set": self._images.fingerprint})
                temporary.replace(path)
                return
            except (OSError, SafetensorError):
                continue
        raise GanscaleError(f"{self._caches[-1]}: the feature classifier cannot be written")
