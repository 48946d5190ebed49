"""The place of each tensor in a network, by which two networks of different sizes are compared.

Layers are numbered from the latent or from the image, so in a network for larger images the same
number is another layer. What stays is the side of the feature maps that a layer works on. It is
measured: a forward pass on tensors without numbers records it, for a user's network too.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganscale.networks.conditioning import ClassBatchNorm, ClassEmbedding

PARAMETRIZED = ".parametrizations."  # in the names of what spectral norm computes a weight from
OCTAVE = tuple[int | None, int | None]


class Place(NamedTuple):
    """Where a tensor belongs: two networks' tensors at the same place do the same."""

    kind: str
    """Type of the layer; a BatchNorm by class counts as a BatchNorm."""
    path: str
    """The tensor's name with `*` for each number."""
    octaves: OCTAVE
    """Rounded binary logarithms of the sides of the layer's input and output; None for vectors."""
    number: int
    """How many such tensors come before it in the network."""


class Layout(NamedTuple):
    """What is compared of a network: the places of its tensors, and what depends on classes."""

    places: Mapping[str, Place]
    """By the tensor's name in the network's state."""
    latent_width: int | None
    """Length of what the first layer takes: the latent, and the class's embedding if there is one;
    None if the network does not say."""


def measure_layout(
    build: Callable[[], nn.Module], inputs: Sequence[tuple[tuple[int, ...], torch.dtype]]
) -> Layout | None:
    """Return the layout of the network that `build` builds; None if it cannot be measured.

    `inputs` are the shapes and types of its arguments. Nothing is computed: the tensors are fake
    ones without numbers, so this is quick for a network of any size. A network that computes with
    the numbers of its tensors in Python cannot be measured.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # imports SymPy

    try:
        with torch.random.fork_rng([]), FakeTensorMode(allow_non_fake_inputs=True):
            network = build()
            arguments = [torch.empty(shape, dtype=dtype) for shape, dtype in inputs]
            octaves = _measure_octaves(network, arguments)
    except Exception:  # whatever a user's network raises without numbers
        return None
    widths = [m.width for m in network.modules() if isinstance(m, ClassEmbedding)]
    return Layout(_find_places(network, octaves), widths[0] if widths else None)


def class_tables(network: nn.Module, classes: int | None) -> set[str]:
    """Return the names of the tensors that have a row for each class."""
    return {
        name
        for name in network.state_dict()
        if isinstance(layer := network.get_submodule(_layer_of(name)), nn.Embedding)
        and layer.num_embeddings == classes
        and _field_of(name) == "weight"
    }


def plain_name(name: str) -> str:
    """Return a tensor's name without what BatchNorm by class and spectral norm put into it."""
    layer, field = _layer_of(name), _field_of(name)
    outer, _, last = layer.rpartition(".")
    if (last, field) in (("gain", "weight"), ("bias", "weight")):
        layer, field = outer, {"gain": "weight", "bias": "bias"}[last]
    elif last == "norm" and field in ("running_mean", "running_var", "num_batches_tracked"):
        layer = outer
    return f"{layer}.{field}".lstrip(".")


def _layer_of(name: str) -> str:
    """Return the name of the layer that a tensor belongs to."""
    layer, found, _ = name.partition(PARAMETRIZED)
    return layer if found else name.rpartition(".")[0]


def _field_of(name: str) -> str:
    """Return what a tensor is in its layer: `weight`, spectral norm or not, `weight.0._u`, …"""
    _, found, field = name.partition(PARAMETRIZED)
    return field.removesuffix(".original") if found else name.rpartition(".")[2]


@torch.no_grad()
def _measure_octaves(network: nn.Module, inputs: Sequence[Tensor]) -> dict[str, OCTAVE]:
    """Return the octaves of each layer's input and output at its first call."""
    found: dict[str, OCTAVE] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(layer: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            if given and isinstance(given[0], Tensor) and given[0].is_floating_point():
                found.setdefault(name, (_octave(given[0]), _octave(output)))

        return hook

    for name, layer in network.named_modules():
        # The whole network's own sides are those of its image, and not of a layer.
        if name and PARAMETRIZED not in f"{name}.":
            layer.register_forward_hook(note(name))
    network(*inputs)
    return found


def _octave(value: Any) -> int | None:
    if not isinstance(value, Tensor) or value.dim() != 4:
        return None
    return round(math.log2(min(value.shape[2:])))


def _find_places(network: nn.Module, octaves: Mapping[str, OCTAVE]) -> dict[str, Place]:
    places: dict[str, Place] = {}
    before: Counter[tuple[Any, ...]] = Counter()
    for name in network.state_dict():
        plain = plain_name(name)
        layer = network.get_submodule(_layer_of(name))
        outer = _layer_of(name).rpartition(".")[0]
        if isinstance(network.get_submodule(outer), ClassBatchNorm):
            layer = network.get_submodule(outer)
        path = ".".join("*" if part.isdecimal() else part for part in plain.split("."))
        sort = (_kind(layer), path, _octaves_at(_layer_of(name), octaves))
        places[name] = Place(*sort, before[sort])
        before[sort] += 1
    return places


def _octaves_at(layer: str, octaves: Mapping[str, OCTAVE]) -> OCTAVE:
    """Return the octaves of a layer, or of the innermost module around it that takes features."""
    while layer:
        if layer in octaves:
            return octaves[layer]
        layer = layer.rpartition(".")[0]
    return None, None


def _kind(layer: nn.Module) -> str:
    if isinstance(layer, ClassBatchNorm):
        return nn.BatchNorm2d.__name__
    kind = type(layer)
    return (kind.__bases__[0] if parametrize.is_parametrized(layer) else kind).__name__
