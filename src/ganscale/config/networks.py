"""The networks that an experiment may name, and their sizes."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from ganscale.config.section import PositiveInt, Section


class MLPGeneratorOptions(Section):
    """A multilayer perceptron from the latent to tanh pixels."""

    architecture: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = (784, 256)
    """Widths of the hidden layers, input side first."""
    activation: Literal["relu", "leaky_relu"] = "relu"
    """LeakyReLU has slope 0.2."""


class MLPDiscriminatorOptions(Section):
    """A multilayer perceptron from pixels to one logit."""

    architecture: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = (256,)
    """Widths of the hidden layers, input side first."""
    activation: Literal["relu", "leaky_relu"] = "relu"
    """LeakyReLU has slope 0.2."""


ARCHITECTURES = ("mlp", "dcgan", "resnet", "r3gan")
PYRAMIDS = ("dcgan", "resnet")
PYRAMID_RESOLUTIONS = (28, 32, 64, 128, 256)


class DCGANGeneratorOptions(Section):
    """The DCGAN generator: strided transposed convolutions, BatchNorm, ReLU, tanh."""

    architecture: Literal["dcgan"] = "dcgan"
    width: PositiveInt = 64
    """Channels before the last layer; doubled at each halving of the resolution, up to 8 times."""
    norm: Literal["batch", "none"] = "batch"
    """Normalisation between layers."""
    attention: PositiveInt | None = None
    """Side of the feature map, in pixels, where self-attention sits; empty for none."""


class DCGANDiscriminatorOptions(Section):
    """The DCGAN discriminator: strided convolutions, BatchNorm, LeakyReLU, one logit."""

    architecture: Literal["dcgan"] = "dcgan"
    width: PositiveInt = 64
    """Channels after the first layer; doubled at each halving of the resolution, up to 8 times."""
    norm: Literal["batch", "none", "spectral"] = "batch"
    """Normalisation between layers; gradient penalties want `none`."""
    attention: PositiveInt | None = None
    """Side of the feature map, in pixels, where self-attention sits; empty for none."""


class ResNetGeneratorOptions(Section):
    """The residual generator of SNGAN and WGAN-GP: BatchNorm, ReLU, nearest neighbours."""

    architecture: Literal["resnet"] = "resnet"
    width: PositiveInt = 256
    """Channels, at 32 pixels those of every block; halved with each doubling beyond."""
    norm: Literal["batch", "none"] = "batch"
    """Normalisation before each convolution."""
    attention: PositiveInt | None = None
    """Side of the feature map, in pixels, where self-attention sits; empty for none."""


class ResNetDiscriminatorOptions(Section):
    """The residual discriminator of SNGAN and WGAN-GP: ReLU, average pooling, no BatchNorm."""

    architecture: Literal["resnet"] = "resnet"
    width: PositiveInt = 128
    """Channels of the blocks at 8 pixels and below; halved with each doubling beyond 32."""
    norm: Literal["none", "spectral"] = "spectral"
    """`none` for gradient penalties; `spectral` holds each largest singular value at 1."""
    attention: PositiveInt | None = None
    """Side of the feature map, in pixels, where self-attention sits; empty for none."""


class R3GANOptions(Section):
    """R3GAN's network, the same on both sides: modern residual blocks, no normalisation."""

    architecture: Literal["r3gan"] = "r3gan"
    widths: tuple[PositiveInt, ...] = (768, 768, 768, 768)
    """Channels of each stage from 4 pixels up; as many as the resolution has doublings, and one."""
    blocks: PositiveInt = 2
    """Residual blocks of a stage."""
    group: PositiveInt = 16
    """Channels of one group of the 3×3 convolutions; divides twice every width."""


class CustomNetworkOptions(Section):
    """A network of the user's own: `path/to/file.py:ClassName` or `package.module:ClassName`."""

    architecture: str = Field(pattern=r"^[^:]+:[A-Za-z_]\w*$")
    """Where the class is; importing it runs the file."""
    options: dict[str, Any] = Field(default={})
    """Keyword arguments of the class, after `latent_dim`, `image_shape` and, where the game is
    conditional, `classes`."""


def _architecture_tag(value: Any) -> str:
    name = value.get("architecture") if isinstance(value, dict) else None
    name = name or getattr(value, "architecture", "mlp")
    return "custom" if isinstance(name, str) and ":" in name else str(name)


GeneratorNetwork = Annotated[
    Annotated[MLPGeneratorOptions, Tag("mlp")]
    | Annotated[DCGANGeneratorOptions, Tag("dcgan")]
    | Annotated[ResNetGeneratorOptions, Tag("resnet")]
    | Annotated[R3GANOptions, Tag("r3gan")]
    | Annotated[CustomNetworkOptions, Tag("custom")],
    Discriminator(_architecture_tag),
]
DiscriminatorNetwork = Annotated[
    Annotated[MLPDiscriminatorOptions, Tag("mlp")]
    | Annotated[DCGANDiscriminatorOptions, Tag("dcgan")]
    | Annotated[ResNetDiscriminatorOptions, Tag("resnet")]
    | Annotated[R3GANOptions, Tag("r3gan")]
    | Annotated[CustomNetworkOptions, Tag("custom")],
    Discriminator(_architecture_tag),
]
