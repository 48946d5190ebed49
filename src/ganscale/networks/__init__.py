"""Generators and discriminators: plain `nn.Module`s, and the functions that build them."""

from ganscale.networks.build import (
    build_discriminator,
    build_generator,
    first_discriminator,
    first_generator,
)

__all__ = ["build_discriminator", "build_generator", "first_discriminator", "first_generator"]
