"""Generators and discriminators: plain `nn.Module`s, and the two functions that build them."""

from ganscale.networks.build import build_discriminator, build_generator

__all__ = ["build_discriminator", "build_generator"]
