"""The textbook pair: multilayer perceptrons on flattened pixels (Goodfellow et al. 2014)."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from ganscale.networks.layers import activation as activation_layer


def _hidden_layers(inputs: int, hidden: Sequence[int], activation: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), activation_layer(activation)]
        inputs = width
    return layers


class MLPGenerator(nn.Module):
    """Latents (N, latent_dim) to images (N, C, H, W) in [-1, 1]."""

    def __init__(
        self,
        latent_dim: int,
        image_shape: tuple[int, int, int],
        hidden: Sequence[int] = (784, 256),
        activation: str = "relu",
    ):
        super().__init__()
        self.image_shape = image_shape
        last = hidden[-1] if hidden else latent_dim
        self.layers = nn.Sequential(
            *_hidden_layers(latent_dim, hidden, activation),
            nn.Linear(last, prod(image_shape)),
            nn.Tanh(),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Make one image for each latent."""
        images: Tensor = self.layers(latents)
        return images.view(-1, *self.image_shape)


class MLPDiscriminator(nn.Module):
    """Images (N, C, H, W) to logits (N,); positive means real."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        hidden: Sequence[int] = (256,),
        activation: str = "relu",
    ):
        super().__init__()
        last = hidden[-1] if hidden else prod(image_shape)
        self.layers = nn.Sequential(
            nn.Flatten(),
            *_hidden_layers(prod(image_shape), hidden, activation),
            nn.Linear(last, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Judge each image."""
        logits: Tensor = self.layers(images)
        return logits.squeeze(1)
