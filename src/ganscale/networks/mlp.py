"""The textbook pair: multilayer perceptrons on flattened pixels (Goodfellow et al. 2014)."""

from collections.abc import Sequence
from math import prod
from typing import Literal

from torch import Tensor, nn

from ganscale.config import NetworkOptions
from ganscale.config.section import PositiveInt
from ganscale.networks.conditioning import ClassEmbedding, ClassProjection
from ganscale.networks.layers import Discriminator, stages_of
from ganscale.networks.layers import activation as activation_layer
from ganscale.networks.registry import DISCRIMINATORS, GENERATORS


class MLPGeneratorOptions(NetworkOptions):
    """A multilayer perceptron from the latent to tanh pixels."""

    hidden: tuple[PositiveInt, ...] = (784, 256)
    """Number of units in each hidden layer, from input to output."""
    activation: Literal["relu", "leaky_relu"] = "relu"
    """Activation of the hidden layers; LeakyReLU has a negative slope of 0.2."""


class MLPDiscriminatorOptions(NetworkOptions):
    """A multilayer perceptron from pixels to one logit."""

    hidden: tuple[PositiveInt, ...] = (256,)
    """Number of units in each hidden layer, from input to output."""
    activation: Literal["relu", "leaky_relu"] = "relu"
    """Activation of the hidden layers; LeakyReLU has a negative slope of 0.2."""


def _hidden_layers(inputs: int, hidden: Sequence[int], activation: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), activation_layer(activation)]
        inputs = width
    return layers


@GENERATORS.register("mlp", MLPGeneratorOptions)
class MLPGenerator(nn.Module):
    """Maps latents (N, latent_dim), and labels (N,), to images (N, C, H, W) in [-1, 1]."""

    def __init__(
        self,
        latent_dim: int,
        image_shape: tuple[int, int, int],
        hidden: Sequence[int] = (784, 256),
        activation: str = "relu",
        classes: int | None = None,
    ):
        super().__init__()
        self.image_shape = image_shape
        self.embedding = ClassEmbedding(latent_dim, classes)
        inputs = self.embedding.width
        last = hidden[-1] if hidden else inputs
        self.layers = nn.Sequential(
            *_hidden_layers(inputs, hidden, activation),
            nn.Linear(last, prod(image_shape)),
            nn.Tanh(),
        )

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate one image for each latent."""
        images: Tensor = self.layers(self.embedding(latents, labels))
        return images.view(-1, *self.image_shape)


@DISCRIMINATORS.register("mlp", MLPDiscriminatorOptions)
class MLPDiscriminator(Discriminator):
    """Maps images (N, C, H, W), and labels (N,), to logits (N,); positive means real."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        hidden: Sequence[int] = (256,),
        activation: str = "relu",
        classes: int | None = None,
    ):
        super().__init__()
        last = hidden[-1] if hidden else prod(image_shape)
        self.layers = nn.Sequential(
            nn.Flatten(), *_hidden_layers(prod(image_shape), hidden, activation)
        )
        self.logit = nn.Linear(last, 1)
        self.projection = ClassProjection(last, classes)

    def stages(self) -> list[list[nn.Module]]:
        """Return the hidden layers."""
        return stages_of(self.layers[1:], nn.Linear)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Judge each image."""
        features = self.layers(images)
        logits: Tensor = self.logit(features).squeeze(1) + self.projection(features, labels)
        return logits
