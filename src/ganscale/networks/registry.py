"""The names of networks: each file of this folder registers its generator and discriminator.

To add a network, write a file here, or name a class in a file of your own in the experiment:
`generator.network.architecture: my_networks.py:MyGenerator`.
"""

import inspect
from typing import Any

from torch import nn

from ganscale.registry import Registry


def _is_network(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module)


MODULES = ("ganscale.networks.mlp", "ganscale.networks")  # the simplest is named first
GENERATORS = Registry[type[nn.Module]](
    "generator",
    "ganscale.generators",
    wanted="an nn.Module",
    accepts=_is_network,
    modules=MODULES,
)
DISCRIMINATORS = Registry[type[nn.Module]](
    "discriminator",
    "ganscale.discriminators",
    wanted="an nn.Module",
    accepts=_is_network,
    modules=MODULES,
)
