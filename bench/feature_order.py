"""The table of docs/evaluation.md that compares rotations with the classifier.

    python bench/feature_order.py PACKED RUN… --number 10000

Half of the dataset is real. The other half, made worse in several ways, and the samples of several
checkpoints play the generated images. A row gives the Fréchet distance of each to the real half, on
each network's features; the last line says how far the networks agree on their order.
"""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.shards.manifest import load_manifest
from ganscale.evaluation.feature_cache import Cache
from ganscale.evaluation.features.network import FeatureNetwork, measure, open_features
from ganscale.evaluation.metrics.fid import frechet_distance
from ganscale.evaluation.metrics.sums import Sums
from ganscale.library.generator import Generator

HOST = torch.device("cpu")
NETWORKS = ("classifier", "rotations")


def blurred(sigma: float) -> Callable[[Tensor], Tensor]:
    """Return a blur with this standard deviation in pixels."""
    return lambda images: gaussian_blur(images, 2 * int(4 * sigma) + 1, sigma)


def noisy(std: float) -> Callable[[Tensor], Tensor]:
    """Return normal noise with this standard deviation in grey levels of 255."""

    def add(images: Tensor) -> Tensor:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        return (images + std * noise).round().clamp(0, 255).byte()

    return add


def repeated(kept: int) -> Callable[[Tensor], Tensor]:
    """Return images of which only some are different ones."""
    return lambda images: images[:kept].repeat(-(-len(images) // kept), 1, 1, 1)[: len(images)]


WORSE: dict[str, Callable[[Tensor], Tensor]] = {
    "held-out real images": lambda images: images,
    "blur, σ = 0.5": blurred(0.5),
    "blur, σ = 1": blurred(1.0),
    "blur, σ = 2": blurred(2.0),
    "noise, 5 levels": noisy(5),
    "noise, 20 levels": noisy(20),
    "noise, 60 levels": noisy(60),
    "200 images, repeated": repeated(200),
    "20 images, repeated": repeated(20),
}


def measured(network: FeatureNetwork, images: Tensor) -> Sums:
    """Return sums over the features of images."""
    batches = [measure(network, batch, HOST) for batch in images.split(500)]
    sums = Sums.zero(batches[0])
    for batch in batches:
        sums.add(batch)
    return sums


def opened(experiment: Experiment, name: str, folder: Path) -> FeatureNetwork:
    """Return a feature network of the dataset."""
    evaluation = experiment.evaluation.model_copy(update={"features": name})
    images = ImageSet(experiment.data)
    return open_features(
        experiment.model_copy(update={"evaluation": evaluation}),
        images,
        images.reader(),
        HOST,
        Cache(experiment.data, images, folder),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("runs", nargs="*", help="all their checkpoints are measured")
    parser.add_argument("--number", type=int, default=10_000, help="images on either side")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    packed = load_manifest(Path(options.dataset))
    shape = [
        f"data.channels={packed.channels}",
        f"data.resolution=[{packed.height},{packed.width}]",
    ]
    experiment = load(None, ["name=order", f"data.path={options.dataset}", *shape])
    images = ImageSet(experiment.data)
    chosen = np.random.default_rng(0).permutation(images.samples)[: 2 * options.number]
    real, other = images.reader().read(chosen).images.split(len(chosen) // 2)[:2]
    generated = {name: make(other) for name, make in WORSE.items()}
    for run in map(Path, options.runs):
        for checkpoint in sorted(path.name for path in (run / "checkpoints").iterdir()):
            generator = Generator.from_run(run, checkpoint, trust_code=True, device="cpu")
            generated[f"{run.name}, {checkpoint}"] = generator.sample(len(other), seed=0)

    distances: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        networks = [opened(experiment, name, Path(folder)) for name in NETWORKS]
    for network in networks:
        sums = measured(network, real)
        distances[network.description] = [
            frechet_distance(sums, measured(network, fake)) for fake in generated.values()
        ]
    print(f"| {images.description} | {' | '.join(distances)} |")
    print(f"|---{'|---:' * len(distances)}|")
    for row in zip(generated, *distances.values(), strict=True):
        print(f"| {row[0]} | {' | '.join(f'{value:.3g}' for value in row[1:])} |")
    print(f"Spearman {spearmanr(*distances.values()).statistic:.2f} over {len(generated)} rows")


if __name__ == "__main__":
    main()
