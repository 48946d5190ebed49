"""What a training loop without a trainer is given, and how its speed is measured."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from ganscale.config import Experiment
from ganscale.devices import wait_for
from ganscale.networks import first_discriminator, first_generator

WARM_UP = 3  # steps


class Setting(NamedTuple):
    """What a loop is given."""

    experiment: Experiment
    images: np.ndarray
    """Real images (N, H, W, C), uint8."""
    device: torch.device

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Return the generator and the discriminator on the device."""
        generator = first_generator(self.experiment).to(self.device)
        return generator, first_discriminator(self.experiment).to(self.device)

    def latents(self) -> Tensor:
        """Draw as PyTorch's users do, on the device."""
        size, dim = self.experiment.train.batch_size, self.experiment.latent.dim
        return torch.randn(size, dim, device=self.device)

    def adam(self, network: nn.Module, **options: Any) -> torch.optim.Adam:
        """Return Adam over a network with the textbook's numbers."""
        return torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999), **options)

    def penalty_weight(self) -> float:
        """Return the weight of R1 and R2, which have the same; 0 without penalties."""
        for penalty in self.experiment.objective.penalties:
            assert isinstance(penalty.weight, float)
            return penalty.weight
        return 0.0

    def autocast(self) -> AbstractContextManager[Any]:
        """Enclose what the experiment wants in bfloat16."""
        lower = self.experiment.train.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=lower)

    def loader(self, workers: int, scaled: bool = True) -> Iterator[Tensor]:
        """Yield shuffled batches (N, C, H, W) for ever: scaled to [-1, 1], or uint8."""
        loader = DataLoader(
            Pictures(self.images, scaled),
            self.experiment.train.batch_size,
            shuffle=True,
            num_workers=workers,
            drop_last=True,
            pin_memory=self.device.type == "cuda",
        )
        return itertools.chain.from_iterable(itertools.repeat(loader))


Step = Callable[[], None]
Loop = Callable[[Setting], Step]


class Pictures(Dataset[Tensor]):
    """Gives one image at a time, through Pillow and torchvision's transforms if it is to scale."""

    def __init__(self, images: np.ndarray, scaled: bool):
        self.images = images.squeeze(-1) if images.shape[-1] == 1 else images
        middle = (0.5,) * images.shape[-1]
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(middle, middle)]
        )
        self.scaled = scaled

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        if not self.scaled:
            return torch.from_numpy(self.images[index].transpose(2, 0, 1).copy())
        image: Tensor = self.transform(Image.fromarray(self.images[index]))
        return image


def rate(setting: Setting, loop: Loop, steps: int) -> float:
    """Return images a second of so many steps, after a few that do not count."""
    step = loop(setting)
    for _ in range(min(WARM_UP, steps)):
        step()
    wait_for(setting.device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait_for(setting.device)
    return steps * setting.experiment.train.batch_size / (time.perf_counter() - start)
