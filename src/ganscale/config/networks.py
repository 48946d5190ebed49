"""Sections for the networks; the options of each network are defined beside that network."""

from typing import Annotated, Any

from pydantic import Field

from ganscale.config.registered import OptionsOf
from ganscale.config.section import Section
from ganscale.registry import CUSTOM


class NetworkOptions(Section):
    """Base of every network's section; the options of a network derive from it."""

    architecture: str
    """Name of the network."""

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that are the network's own."""
        return self.model_dump(exclude={"architecture"})

    def about_resolution(self, height: int, width: int) -> str | None:
        """Return why the network does not support images of this size in pixels, or None."""
        return None


class CustomNetworkOptions(NetworkOptions):
    """A user-defined network: `path/to/file.py:ClassName` or `package.module:ClassName`."""

    architecture: str = Field(pattern=CUSTOM)
    """Location of the class; importing it runs the file."""
    options: dict[str, Any] = Field(default={})
    """Keyword arguments passed to the class, besides `latent_dim`, `image_shape` and, if the GAN
    is conditional, `classes`."""

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that are the network's own."""
        return self.options


GENERATOR = OptionsOf(
    "ganscale.networks.registry:GENERATORS",
    tag="architecture",
    base=NetworkOptions,
    custom=CustomNetworkOptions,
    default="mlp",
)
DISCRIMINATOR = OptionsOf(
    "ganscale.networks.registry:DISCRIMINATORS",
    tag="architecture",
    base=NetworkOptions,
    custom=CustomNetworkOptions,
    default="mlp",
)
GeneratorNetwork = Annotated[NetworkOptions, GENERATOR]
DiscriminatorNetwork = Annotated[NetworkOptions, DISCRIMINATOR]
