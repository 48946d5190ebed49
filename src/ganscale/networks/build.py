"""From the experiment's `network` section to a network."""

import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganscale import randomness
from ganscale.config import CustomNetworkOptions, Experiment, Section
from ganscale.errors import GanscaleError
from ganscale.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from ganscale.networks.mlp import MLPDiscriminator, MLPGenerator
from ganscale.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from ganscale.networks.resnet import ResNetDiscriminator, ResNetGenerator

GENERATORS: dict[str, type[nn.Module]] = {
    "mlp": MLPGenerator,
    "dcgan": DCGANGenerator,
    "resnet": ResNetGenerator,
    "r3gan": R3GANGenerator,
}
DISCRIMINATORS: dict[str, type[nn.Module]] = {
    "mlp": MLPDiscriminator,
    "dcgan": DCGANDiscriminator,
    "resnet": ResNetDiscriminator,
    "r3gan": R3GANDiscriminator,
}


def build_generator(
    options: Section,
    latent_dim: int,
    image_shape: tuple[int, int, int],
    classes: int | None = None,
) -> nn.Module:
    """A generator: called with latents (N, latent_dim), it returns images (N, *image_shape).

    With `classes` it is also given labels (N,), int64.
    """
    required = {"latent_dim": latent_dim, "image_shape": image_shape}
    return _build(options, GENERATORS, required | _conditions(classes))


def build_discriminator(
    options: Section, image_shape: tuple[int, int, int], classes: int | None = None
) -> nn.Module:
    """A discriminator: called with images (N, *image_shape), it returns logits (N,).

    With `classes` it is also given labels (N,), int64.
    """
    return _build(options, DISCRIMINATORS, {"image_shape": image_shape} | _conditions(classes))


def first_generator(experiment: Experiment) -> nn.Module:
    """The generator with its first weights: the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(randomness.torch_seed(experiment.seed, "weights/generator"))
        return build_generator(
            experiment.generator.network,
            experiment.latent.dim,
            experiment.image_shape,
            experiment.data.classes,
        )


def first_discriminator(experiment: Experiment) -> nn.Module:
    """The discriminator with its first weights: the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(randomness.torch_seed(experiment.seed, "weights/discriminator"))
        return build_discriminator(
            experiment.discriminator.network, experiment.image_shape, experiment.data.classes
        )


def _conditions(classes: int | None) -> dict[str, Any]:
    """An unconditional network of the user's own need not know of classes."""
    return {} if classes is None else {"classes": classes}


def _build(
    options: Section, known: dict[str, type[nn.Module]], required: dict[str, Any]
) -> nn.Module:
    if isinstance(options, CustomNetworkOptions):
        network = _load_class(options.architecture)
        arguments = {**required, **options.options}
        try:
            inspect.signature(network).bind(**arguments)
        except TypeError as error:
            raise GanscaleError(
                f"network {options.architecture}: its arguments do not fit ({error}); it is called "
                f"with {', '.join(required)} and then with its own `options`"
            ) from None
        return network(**arguments)
    arguments = options.model_dump(exclude={"architecture"})
    return known[options.architecture](**required, **arguments)  # type: ignore[attr-defined]


def _load_class(architecture: str) -> type[nn.Module]:
    """The class that `path/to/file.py:ClassName` or `package.module:ClassName` names."""
    location, _, name = architecture.rpartition(":")
    if location.endswith(".py"):
        path = Path(location)
        if not path.is_file():
            raise GanscaleError(f"network {architecture}: no file {path.resolve()}")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(location)
        except ModuleNotFoundError as error:
            raise GanscaleError(f"network {architecture}: {error}") from None
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise GanscaleError(f"network {architecture}: {location} has no nn.Module named {name}")
    return found
