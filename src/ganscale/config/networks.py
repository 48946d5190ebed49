"""The networks that an experiment may name; their options stand beside each network."""

from typing import Annotated, Any

from pydantic import Field

from ganscale.config.registered import OptionsOf
from ganscale.config.section import Section
from ganscale.registry import CUSTOM


class NetworkOptions(Section):
    """What every network's section has; a network's own options derive from it."""

    architecture: str
    """Which network."""

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that are the network's own."""
        return self.model_dump(exclude={"architecture"})

    def about_resolution(self, resolution: int) -> str | None:
        """Return why the network cannot have square images of so many pixels a side, or None."""
        return None


class CustomNetworkOptions(NetworkOptions):
    """A network of the user's own: `path/to/file.py:ClassName` or `package.module:ClassName`."""

    architecture: str = Field(pattern=CUSTOM)
    """Where the class is; importing it runs the file."""
    options: dict[str, Any] = Field(default={})
    """Keyword arguments of the class, after `latent_dim`, `image_shape` and, where the game is
    conditional, `classes`."""

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
