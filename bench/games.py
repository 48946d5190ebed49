"""The games that the benchmarks of speed play, the images they play with, and the trainer's speed.

The images are random but smooth, since noise compresses to larger files than photographs do.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import loops
import numpy as np
import torch
from accelerate.state import AcceleratorState
from bare import BareLoop
from setting import Loop, Setting

from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import ArraySource
from ganscale.engines.launcher import Launcher
from ganscale.training.preemption import StopRequest
from ganscale.training.trainer import Trainer

IMAGES = 4096
NEVER = 1_000_000_000


@dataclass(frozen=True)
class Game:
    """A game, and the loops that are written for it elsewhere."""

    overrides: tuple[str, ...]
    """What decides what is computed."""
    steps: int
    """Steps of a round on a CPU."""
    loops: Mapping[str, Loop]
    """Loops to compare the trainer with, by what they are called in the table."""
    variants: Mapping[str, str] = field(default_factory=dict)
    """Further overrides with which the trainer is measured too, by what they are called."""


def mlp(batch: int) -> tuple[str, ...]:
    """Return the textbook's GAN at 28 pixels."""
    return ("data.resolution=28", "data.channels=1", f"train.batch_size={batch}")


def dcgan(batch: int, width: int, *more: str) -> tuple[str, ...]:
    """Return a DCGAN at 64 pixels."""
    network = f"{{architecture: dcgan, width: {width}}}"
    return (*_coloured(64, batch, network, network), *more)


def r3gan(batch: int, width: int, *more: str) -> tuple[str, ...]:
    """Return R3GAN at 32 pixels, with `width` channels in all stages."""
    network = f"{{architecture: r3gan, widths: [{width}, {width}, {width}, {width}]}}"
    game = _coloured(32, batch, network, network)
    return (*game, "latent.dim=64", "objective.loss=relativistic", *more)


def sngan(batch: int, generator: int, discriminator: int, *more: str) -> tuple[str, ...]:
    """Return SNGAN at 32 pixels, with networks of these widths."""
    game = _coloured(
        32,
        batch,
        f"{{architecture: resnet, width: {generator}}}",
        f"{{architecture: resnet, width: {discriminator}, norm: spectral}}",
    )
    return (*game, "latent.dim=128", "discriminator.steps=5", "objective.loss=hinge", *more)


def _coloured(side: int, batch: int, generator: str, discriminator: str) -> tuple[str, ...]:
    return (
        f"data.resolution={side}",
        "data.channels=3",
        f"train.batch_size={batch}",
        f"generator.network={generator}",
        f"discriminator.network={discriminator}",
    )


def penalties(first: str, second: str) -> str:
    """Return R1 and R2 as they are called, in the precision of the network."""
    listed = (f"{{kind: '{kind}', weight: 0.05, precision: network}}" for kind in (first, second))
    return f"objective.penalties=[{', '.join(listed)}]"


BF16 = ("train.precision=bf16", "train.channels_last=true")
R1_AND_R2 = penalties("r1", "r2")
SHARED = {"trainer, share_fakes": "objective.share_fakes=true"}
DCGAN_LOOPS: dict[str, Loop] = {"bare": BareLoop, "PyTorch's example": loops.dcgan_example}
R3GAN_LOOPS: dict[str, Loop] = {"bare": BareLoop, "R3GAN's authors": loops.r3gan_authors}
SNGAN_LOOPS: dict[str, Loop] = {"bare": BareLoop, "mimicry": loops.mimicry}
MLP_LOOPS: dict[str, Loop] = {
    "bare": BareLoop,
    "textbook": loops.textbook,
    "textbook, 2 workers": loops.textbook_with_workers,
}
GAMES = {
    "MLP 28, batch 128": Game(mlp(128), 300, MLP_LOOPS, SHARED),
    "DCGAN 64, width 64, batch 64, bf16": Game(dcgan(64, 64, *BF16), 6, DCGAN_LOOPS, SHARED),
    "R3GAN 32, widths 192, batch 16": Game(r3gan(16, 192, R1_AND_R2), 3, R3GAN_LOOPS),
    "R3GAN 32, widths 192, batch 16, bf16": Game(r3gan(16, 192, R1_AND_R2, *BF16), 3, R3GAN_LOOPS),
    "SNGAN 32, widths 64, batch 64": Game(sngan(64, 64, 64), 2, SNGAN_LOOPS),
}


def setting(work: Path, overrides: Sequence[str], device: torch.device) -> Setting:
    """Return what all loops of a game are given; packs its images into `work` if need be."""
    channels, side, _ = load(None, list(overrides)).image_shape
    packed = work / f"{channels}x{side}"
    if not packed.exists():
        pack_images(packed, channels, side)
    return Setting(experiment(work, overrides, packed), smooth_images(channels, side), device)


def experiment(
    work: Path, overrides: Sequence[str], packed: Path, file: Path | None = None
) -> Experiment:
    """Return the game, or that of a file, as an experiment that logs nothing but its speed."""
    return load(
        file,
        [
            "name=benchmark",
            f"runs={work / 'runs'}",
            f"data.path={packed}",
            "monitoring.wandb=disabled",
            "monitoring.trackers=[wandb]",
            f"monitoring.pictures_every={NEVER}",
            f"checkpoint.every={NEVER}",
            f"train.compare_every={NEVER}",
            *overrides,
        ],
    )


def pack_images(folder: Path, channels: int, side: int) -> None:
    """Write the images as a packed dataset."""
    images = smooth_images(channels, side)
    pixels = images.squeeze(-1) if channels == 1 else images
    source = ArraySource("random", pixels, np.zeros(len(images), dtype=np.int64))
    pack(source, folder, Packing(), 1, lambda *_: None)


def smooth_images(channels: int, side: int) -> np.ndarray:
    """Return images (N, side, side, channels), uint8: squares of random colours."""
    small = np.random.default_rng(0).integers(0, 256, (IMAGES, 8, 8, channels), dtype=np.uint8)
    return np.repeat(np.repeat(small, -(-side // 8), 1), -(-side // 8), 2)[:, :side, :side]


def train(experiment: Experiment, steps: int) -> dict[str, float]:
    """Run the whole trainer for twice as many steps; return what it logs about the second half."""
    AcceleratorState._reset_state()
    length = experiment.train.model_copy(update={"steps": 2 * steps})
    monitoring = experiment.monitoring.model_copy(update={"log_every": steps})
    with tempfile.TemporaryDirectory() as runs:
        trainer = Trainer(
            experiment.model_copy(update={"train": length, "monitoring": monitoring, "runs": runs}),
            Launcher.from_environment(),
        )
        trainer.resume()
        with StopRequest(trainer.ranks, trainer.model.device, trainer.folder.path) as stop:
            trainer.loop.run(stop)
        trainer.folder.release()
        lines = trainer.folder.metrics.read_text().splitlines()
    logged: dict[str, float] = json.loads(lines[-1])
    return logged
