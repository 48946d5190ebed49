"""Networks that write down what they are shown: used by name from an experiment file."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn


class Recorder:
    """Appends tensors to a file of this rank."""

    def __init__(self, name: str):
        self.path = Path(os.environ["RECORD"]) / f"{name}-{os.environ.get('RANK', 0)}"
        self.seen: list[Tensor] = []

    def __call__(self, tensor: Tensor) -> None:
        self.seen.append(tensor.detach().clone())
        torch.save(self.seen, self.path)


class Generator(nn.Module):
    def __init__(self, latent_dim: int, image_shape: tuple[int, int, int]):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(latent_dim, 784), nn.Tanh())
        self.rare = nn.Linear(latent_dim, 784)
        self.record = Recorder("latents")

    def forward(self, latents: Tensor) -> Tensor:
        if self.training:
            self.record(latents)
        images: Tensor = self.layers(latents)
        rows = latents[:, 0] > 1  # not every rank has such rows at every step
        if rows.any():
            images = images.index_add(0, rows.nonzero().flatten(), self.rare(latents[rows]))
        return images.view(-1, 1, 28, 28)


class Discriminator(nn.Module):
    treats_images_one_by_one = True  # real and generated ones come in one call

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 1))
        self.record = Recorder("real")

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad is False and len(images) > 1:  # real and made, in one batch
            self.record(images[: len(images) // 2])
        logits: Tensor = self.layers(images)
        return logits.squeeze(1)
