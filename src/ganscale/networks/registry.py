"""The names of networks: each file of this folder registers its generator and discriminator.

To add a network, write a file here, or name a class in a file of your own in the experiment:
`generator.network.architecture: my_networks.py:MyGenerator`.
"""

from torch import nn

from ganscale.registry import Registry, is_subclass_of


def _networks_of(player: str) -> Registry[type[nn.Module]]:
    return Registry(
        player,
        f"ganscale.{player}s",
        wanted="an nn.Module",
        accepts=is_subclass_of(nn.Module),
        modules=("ganscale.networks.mlp", "ganscale.networks"),  # the simplest is named first
    )


GENERATORS = _networks_of("generator")
DISCRIMINATORS = _networks_of("discriminator")
