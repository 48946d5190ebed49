"""What a warm start gains: digits 5 to 9 from 500 images, after a run on the digits 0 to 4.

    OMP_NUM_THREADS=1 taskset -c 0 python bench/fine_tuning.py data/MNIST/raw runs/fine_tuning

reads MNIST's four files, packs the sets below the second folder, trains the source and then each
row with as many steps, and prints the table of docs/fine-tuning.md. FID compares 5,000 generated
images with all digits 5 to 9 of the training set, of which each row has seen 500.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import ArraySource
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.resident import open_reader
from ganscale.engines.distributed import Ranks
from ganscale.evaluation.evaluator import Evaluator
from ganscale.runs.sampler import Sampler
from ganscale.training.trainer import train

RECIPE = Path(__file__).parents[1] / "configs" / "mnist_dcgan.yaml"
SOURCE_STEPS, STEPS, BATCH = 1000, 300, 64
SHOWN = (50, 100, 300)
FEW = 500
ROWS: dict[str, tuple[str, ...]] = {
    "from the seed": (),
    "init_from": ("init_from.source={source}",),
    "init_from, freeze 1": ("init_from.source={source}", "discriminator.freeze=1"),
    "init_from, freeze 2": ("init_from.source={source}", "discriminator.freeze=2"),
    "init_from, freeze 3": ("init_from.source={source}", "discriminator.freeze=3"),
    "init_from the generator alone": ("init_from.source={average}",),
}


def read_digits(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the training images (60000, 28, 28) and their classes (60000,)."""
    pixels = np.fromfile(folder / "train-images-idx3-ubyte", np.uint8, offset=16)
    return pixels.reshape(-1, 28, 28), np.fromfile(
        folder / "train-labels-idx1-ubyte", np.uint8, offset=8
    )


def pack_sets(digits: Path, folder: Path) -> None:
    """Pack the digits 0 to 4, some of the digits 5 to 9, and all of these."""
    images, labels = read_digits(digits)
    high = labels >= 5
    for name, images_, labels_ in (
        ("low", images[~high], labels[~high]),
        ("few", images[high][:FEW], labels[high][:FEW] - 5),
        ("high", images[high], labels[high] - 5),
    ):
        if not (folder / name / "manifest.json").exists():
            source = ArraySource(name, images_, labels_)
            pack(source, folder / name, Packing(size=28), 1, lambda *_: None)


def experiment(name: str, data: Path, runs: Path, steps: int, *more: str) -> Experiment:
    """Return the recipe at half its width, which takes a core some ten steps a second."""
    return load(
        RECIPE,
        [
            f"name={name.replace(', ', '-').replace(' ', '_')}",
            f"data.path={data}",
            f"runs={runs}",
            f"train.steps={steps}",
            f"train.batch_size={BATCH}",
            "generator.network.width=16",
            "discriminator.network.width=16",
            "evaluation={every: null, samples: 5000}",
            f"checkpoint={{every: {SHOWN[0]}, keep: 1000}}",
            f"monitoring={{wandb: disabled, trackers: [wandb], pictures_every: {steps}}}",
            *more,
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("digits", type=Path, help="folder of train-images-idx3-ubyte and so on")
    parser.add_argument("folder", type=Path, help="where sets and runs are kept")
    options = parser.parse_args()
    folder: Path = options.folder
    pack_sets(options.digits, folder)
    source = experiment("source", folder / "low", folder, SOURCE_STEPS)
    train(source)
    checkpoints = source.folder / "checkpoints"
    average = checkpoints / f"step-{SOURCE_STEPS:08d}" / "ema.safetensors"
    tuned = {}
    for name, overrides in ROWS.items():
        more = [o.format(source=source.folder, average=average) for o in overrides]
        tuned[name] = experiment(name, folder / "few", folder, STEPS, *more)
        train(tuned[name])
    first = next(iter(tuned.values()))
    data = first.data.model_copy(update={"path": str(folder / "high")})
    images = ImageSet(data)
    device = Sampler(first.folder, "latest").device
    reader, _ = open_reader(data, images, Ranks(), device)
    scored = first.model_copy(update={"data": data})
    evaluator = Evaluator(scored, images, reader, device, Ranks(), folder)
    print("| | " + " | ".join(f"FID after {step} steps" for step in SHOWN) + " |")
    print("|---|" + "---|" * len(SHOWN))
    for name, run in tuned.items():
        found = [Sampler(run.folder, str(step)).generator for step in SHOWN]
        fids = [evaluator.scores(generator).values["fid"] for generator in found]
        print(f"| {name} | " + " | ".join(f"{fid:.1f}" for fid in fids) + " |", flush=True)


if __name__ == "__main__":
    main()
