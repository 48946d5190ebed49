"""Builds the networks that an experiment names, also with the first weights of its seed."""

from typing import Any

import torch
from torch import nn

from ganscale import randomness
from ganscale.config import Experiment, NetworkOptions
from ganscale.networks.registry import DISCRIMINATORS, GENERATORS
from ganscale.registry import Registry, call


def build_generator(
    options: NetworkOptions,
    latent_dim: int,
    image_shape: tuple[int, int, int],
    classes: int | None = None,
) -> nn.Module:
    """Return a generator: it maps latents (N, latent_dim) to images (N, *image_shape).

    With `classes` it also takes labels (N,), int64.
    """
    required = {"latent_dim": latent_dim, "image_shape": image_shape}
    return _build(options, GENERATORS, required | _conditions(classes))


def build_discriminator(
    options: NetworkOptions, image_shape: tuple[int, int, int], classes: int | None = None
) -> nn.Module:
    """Return a discriminator: it maps images (N, *image_shape) to logits (N,).

    With `classes` it also takes labels (N,), int64.
    """
    return _build(options, DISCRIMINATORS, {"image_shape": image_shape} | _conditions(classes))


def first_generator(experiment: Experiment) -> nn.Module:
    """Return the generator with the seed's first weights: the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(randomness.torch_seed(experiment.seed, "weights/generator"))
        return build_generator(
            experiment.generator.network,
            experiment.latent.dim,
            experiment.image_shape,
            experiment.data.classes,
        )


def first_discriminator(experiment: Experiment) -> nn.Module:
    """Return the discriminator with the seed's first weights: the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(randomness.torch_seed(experiment.seed, "weights/discriminator"))
        return build_discriminator(
            experiment.discriminator.network, experiment.image_shape, experiment.data.classes
        )


def _conditions(classes: int | None) -> dict[str, Any]:
    """Return the argument of a conditional network; any other need not know of classes."""
    return {} if classes is None else {"classes": classes}


def _build(
    options: NetworkOptions, known: Registry[type[nn.Module]], required: dict[str, Any]
) -> nn.Module:
    name = options.architecture
    arguments = {**required, **options.arguments()}
    return call(f"{known.kind} {name}", known.get(name), arguments)
