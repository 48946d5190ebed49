"""Images a second of the whole trainer against loops written by hand, in one process.

    python bench/step.py [--steps N] [--rounds N] [--json FILE]

`bare` is what the trainer's arithmetic costs: the same networks, optimizer, precision and memory
order in a plain loop over one batch that is already in memory, the discriminator frozen while the
generator learns. `textbook` is the loop of the tutorials: a DataLoader with transforms, float32,
contiguous, the discriminator's gradients computed in the generator's step and thrown away. All
three run one after another in rounds; figures are medians.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import ArraySource
from ganscale.networks import build_discriminator, build_generator
from ganscale.training.preemption import StopRequest
from ganscale.training.trainer import Trainer

IMAGES = 4096
WARM_UP = 3  # steps
GAMES = {
    "MLP 28, batch 128": ["data.resolution=28", "data.channels=1", "train.batch_size=128"],
    "DCGAN 64, batch 64": [
        "data.resolution=64",
        "data.channels=3",
        "train.batch_size=64",
        "generator.network={architecture: dcgan, width: 64}",
        "discriminator.network={architecture: dcgan, width: 64}",
        "train.channels_last=true",
        "train.precision=bf16",
    ],
}


def main() -> None:
    options = _options()
    logging.getLogger("ganscale").setLevel(logging.ERROR)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for name, overrides in GAMES.items():
            experiment, images = prepared(Path(work) / name.split()[0], overrides)
            steps = options.steps * (10 if name.startswith("MLP") else 1)
            loops: dict[str, Callable[[], float]] = {
                "trainer": lambda e=experiment, n=steps: trainer(e, n),  # type: ignore[misc]
                "bare": lambda e=experiment, i=images, n=steps: bare(e, i, n),  # type: ignore[misc]
                "textbook": lambda e=experiment, i=images, n=steps: textbook(e, i, n),  # type: ignore[misc]
            }
            rates: dict[str, list[float]] = {loop: [] for loop in loops}
            for _ in range(options.rounds):
                for loop, measure in loops.items():
                    rates[loop].append(measure())
            medians = {loop: statistics.median(found) for loop, found in rates.items()}
            rows += [{"game": name, "loop": k, "images_per_second": v} for k, v in medians.items()]
            _show(name, medians)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="of a round (ten times for the MLP)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args()


def prepared(folder: Path, overrides: list[str]) -> tuple[Experiment, np.ndarray]:
    """An experiment, and the smooth random images (N, H, W, C) of its packed set."""
    experiment = load(
        None,
        [
            *overrides,
            f"runs={folder}",
            f"data.path={folder / 'set'}",
            "monitoring.wandb=disabled",
            "monitoring.tensorboard=false",
            "monitoring.pictures_every=1000000",
            "checkpoint.every=1000000",
        ],
    )
    channels, side, _ = experiment.image_shape
    small = np.random.default_rng(0).integers(0, 256, (IMAGES, 8, 8, channels), dtype=np.uint8)
    images = np.repeat(np.repeat(small, -(-side // 8), 1), -(-side // 8), 2)[:, :side, :side]
    pixels = images.squeeze(-1) if channels == 1 else images
    labels = np.zeros(IMAGES, dtype=np.int64)
    pack(ArraySource("random", pixels, labels), folder / "set", Packing(), 2, lambda *_: None)
    return experiment, images


def trainer(experiment: Experiment, steps: int) -> float:
    """A whole run of the trainer, by the images/s that it logs."""
    AcceleratorState._reset_state()
    train = experiment.train.model_copy(update={"steps": 2 * steps})
    monitoring = experiment.monitoring.model_copy(update={"log_every": steps})
    with tempfile.TemporaryDirectory() as runs:
        run = Trainer(
            experiment.model_copy(update={"train": train, "monitoring": monitoring, "runs": runs})
        )
        run.resume()
        with StopRequest(run.accelerator, run.folder.path) as stop:
            run.run(stop)
        run.folder.release()
        lines = (run.folder.path / "metrics.jsonl").read_text().splitlines()
    return float(json.loads(lines[-1])["images/s"])  # the first includes the warm-up


def bare(experiment: Experiment, images: np.ndarray, steps: int) -> float:
    """The same arithmetic in a plain loop on one batch in memory."""
    generator, discriminator = _networks(experiment)
    layout = torch.channels_last if experiment.train.channels_last else torch.contiguous_format
    generator.to(memory_format=layout)
    discriminator.to(memory_format=layout)
    average = _networks(experiment)[0]
    optimizers = [_adam(generator), _adam(discriminator)]
    size, dim = experiment.train.batch_size, experiment.latent.dim
    batch = torch.from_numpy(images[:size]).permute(0, 3, 1, 2)
    apart = any(isinstance(m, nn.BatchNorm2d) for m in discriminator.modules())
    lower = experiment.train.precision == "bf16"

    def step(_: int) -> None:
        real = (batch.float() / 127.5 - 1).contiguous(memory_format=layout)
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            with torch.no_grad():
                fake = generator(torch.randn(size, dim))
            if apart:
                of_real, of_fake = discriminator(real), discriminator(fake)
            else:
                of_real, of_fake = discriminator(torch.cat([real, fake])).chunk(2)
        loss = softplus(-of_real.float()).mean() + softplus(of_fake.float()).mean()
        _update(optimizers[1], loss)
        discriminator.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            logits = discriminator(generator(torch.randn(size, dim)))
        _update(optimizers[0], softplus(-logits.float()).mean())
        discriminator.requires_grad_(True)
        with torch.no_grad():
            theirs: list[Tensor] = list(generator.parameters())
            torch._foreach_lerp_(list(average.parameters()), theirs, 0.01)

    return _rate(step, steps, size)


class Pictures(Dataset[Tensor]):
    """One image at a time through Pillow and transforms."""

    def __init__(self, images: np.ndarray):
        self.images = images.squeeze(-1) if images.shape[-1] == 1 else images
        middle = (0.5,) * images.shape[-1]
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(middle, middle)]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.transform(Image.fromarray(self.images[index]))
        return image


def textbook(experiment: Experiment, images: np.ndarray, steps: int) -> float:
    """The tutorials' loop."""
    generator, discriminator = _networks(experiment)
    optimizers = [_adam(generator, fused=False), _adam(discriminator, fused=False)]
    size, dim = experiment.train.batch_size, experiment.latent.dim
    loader = DataLoader(Pictures(images), size, shuffle=True, num_workers=2, drop_last=True)
    ones, zeros = torch.ones(size), torch.zeros(size)
    epoch = iter(loader)

    def step(_: int) -> None:
        nonlocal epoch
        try:
            real = next(epoch)
        except StopIteration:
            epoch = iter(loader)
            real = next(epoch)
        optimizers[1].zero_grad()
        of_real = binary_cross_entropy_with_logits(discriminator(real), ones)
        of_real.backward()
        fake = generator(torch.randn(size, dim))
        of_fake = binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
        of_fake.backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        binary_cross_entropy_with_logits(discriminator(fake), ones).backward()
        optimizers[0].step()
        of_real.item(), of_fake.item()  # the tutorials print them

    return _rate(step, steps, size)


def _networks(experiment: Experiment) -> tuple[nn.Module, nn.Module]:
    shape = experiment.image_shape
    generator = build_generator(experiment.generator.network, experiment.latent.dim, shape)
    return generator, build_discriminator(experiment.discriminator.network, shape)


def _adam(network: nn.Module, fused: bool = True) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999), fused=fused)


def _update(optimizer: torch.optim.Adam, loss: Tensor) -> None:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def _rate(step: Callable[[int], None], steps: int, batch_size: int) -> float:
    """Images a second, after some steps that do not count."""
    for k in range(WARM_UP):
        step(k)
    start = time.perf_counter()
    for k in range(WARM_UP, WARM_UP + steps):
        step(k)
    return steps * batch_size / (time.perf_counter() - start)


def _show(name: str, medians: dict[str, float]) -> None:
    table = Table("loop", "images/s", "trainer is", title=name)
    for loop, rate in medians.items():
        table.add_row(loop, f"{rate:,.0f}", f"{medians['trainer'] / rate:.2f}×")
    Console().print(table)


if __name__ == "__main__":
    main()
