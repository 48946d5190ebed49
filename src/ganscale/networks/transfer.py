"""Takes the weights of one network into another that may differ in size and in its classes.

Tensors are matched by their place and their shape. What does not fit keeps the first weights of the
seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm

from ganscale.networks.places import Layout, class_tables, plain_name

POWER_ITERATIONS = 15  # as spectral norm takes for a layer's first weights


@dataclass(frozen=True)
class Given:
    """A network's tensors from elsewhere, and what is known of the network."""

    tensors: Mapping[str, Tensor]
    layout: Layout | None = None
    """None if only the tensors are known: they are then matched by their names alone."""
    classes: int | None = None


@dataclass
class Transfer:
    """What a network took, by the names of its tensors, and what it did not."""

    whole: list[str] = field(default_factory=list)
    in_part: dict[str, str] = field(default_factory=dict)
    """With what was done."""
    other_shape: dict[str, str] = field(default_factory=dict)
    """With both shapes."""
    missing: list[str] = field(default_factory=list)
    """There is no such tensor in what was given."""
    left_over: list[str] = field(default_factory=list)
    """Tensors that were given and have no place in the network, by their names there."""
    tensors: int = 0
    parameters: int = 0
    """Numbers in all parameters of the network."""
    taken: int = 0
    """Of these, how many are in tensors that were taken, wholly or in part."""
    matrices: int = 0
    """Parameters of two dimensions or more that were taken: a lone bias may fit by chance."""


@torch.no_grad()
def transfer(
    network: nn.Module,
    given: Given,
    layout: Layout | None = None,
    classes: int | None = None,
    rows: Sequence[int | None] | None = None,
) -> Transfer:
    """Put the given tensors into a network, in place, and return what it took.

    `layout` is the network's own; if either is unknown, tensors are matched by their names.
    `rows` says for each of the network's `classes` which of the given ones it continues; None is a
    class that none was trained on. It starts from the mean of all that were: of what a class adds,
    that is the part that does not depend on the class. (Shahbazi et al. 2021 learn a combination of
    the old classes for each new one; the mean is the one with equal weights.) Without `rows`, a
    class continues the one of the same number.
    """
    fit = _Fit(network, given, layout, classes, rows)
    own: dict[str, Tensor] = network.state_dict()
    done, parameters = Transfer(tensors=len(own)), dict(network.named_parameters())
    done.parameters = sum(parameter.numel() for parameter in parameters.values())
    used: set[str] = set()
    for name, tensor in own.items():
        source = fit.source_of(name)
        if source is None:
            done.missing.append(name)
            continue
        used.add(source)
        value, how = fit.value(name, tensor, given.tensors[source])
        if value is None:
            done.other_shape[name] = how
            continue
        tensor.copy_(value)
        if name in parameters:
            done.taken += tensor.numel()
            done.matrices += tensor.dim() > 1
        if how:
            done.in_part[name] = how
        else:
            done.whole.append(name)
    done.left_over = [name for name in given.tensors if name not in used]
    _renew_singular_vectors(network, done)
    return done


class _Fit:
    """Finds for each tensor of a network the given one, and makes it fit."""

    def __init__(
        self,
        network: nn.Module,
        given: Given,
        layout: Layout | None,
        classes: int | None,
        rows: Sequence[int | None] | None,
    ):
        self._rows = rows
        self._given_classes = given.classes
        self._tables = class_tables(network, classes) if classes is not None else set()
        self._places = self._sources = None
        self._widths: tuple[int | None, int | None] = (None, None)
        if layout is not None and given.layout is not None:
            self._places = layout.places
            self._sources = {given.layout.places.get(name): name for name in given.tensors}
            self._widths = (layout.latent_width, given.layout.latent_width)
        self._by_name = {plain_name(name): name for name in given.tensors}

    def source_of(self, name: str) -> str | None:
        """Return the name of the given tensor at the same place; None if there is none."""
        if self._places is not None and self._sources is not None:
            return self._sources.get(self._places[name])
        return self._by_name.get(plain_name(name))

    def value(self, name: str, own: Tensor, other: Tensor) -> tuple[Tensor | None, str]:
        """Return the value that a tensor takes, and what was done unless it is the given one.

        The value is None if the shapes do not fit.
        """
        if name in self._tables and other.dim() == own.dim() and other.shape[1:] == own.shape[1:]:
            return self._by_class(own, other)
        if other.shape == own.shape:
            return other, ""
        if name in self._tables and other.shape == own.shape[1:]:
            return other.expand_as(own), "each class starts from the layer without classes"
        if other.dim() == own.dim() + 1 and other.shape == (self._given_classes, *own.shape):
            return other.mean(0), "the mean over classes"
        grown = self._with_other_inputs(own, other)
        if grown is not None:
            return grown, f"{list(own.shape)} from {list(other.shape)}, as classes are new or gone"
        return None, f"{list(own.shape)} here, {list(other.shape)} in the source"

    def _by_class(self, own: Tensor, other: Tensor) -> tuple[Tensor, str]:
        there = len(other)
        rows = self._rows or [i if i < there else None for i in range(len(own))]
        if list(rows) == list(range(there)):
            return other, ""
        mean = other.mean(0)
        value = torch.stack([mean if row is None else other[row] for row in rows])
        kept = sum(row is not None for row in rows)
        rest = ", the others start from the mean" if kept < len(own) else ""
        return value, f"{kept} of {len(own)} classes continue{rest}"

    def _with_other_inputs(self, own: Tensor, other: Tensor) -> Tensor | None:
        """Return a first layer's weight for a latent with, or without, a class's embedding.

        The weights of a new embedding are zero: at the start every class is the image without one.
        """
        ours, theirs = self._widths
        if ours is None or theirs is None or own.dim() != other.dim():
            return None
        unlike = [i for i in range(own.dim()) if own.shape[i] != other.shape[i]]
        if len(unlike) != 1 or (own.shape[unlike[0]], other.shape[unlike[0]]) != (ours, theirs):
            return None
        (axis,), shared = unlike, min(ours, theirs)
        value = torch.zeros_like(own)
        value.narrow(axis, 0, shared).copy_(other.narrow(axis, 0, shared))
        return value


def _renew_singular_vectors(network: nn.Module, done: Transfer) -> None:
    """Let spectral norm find the singular vectors of weights that came without theirs."""
    whole, taken = set(done.whole), {*done.whole, *done.in_part}
    for name, layer in network.named_modules():
        if not isinstance(layer, _SpectralNorm):
            continue
        weights = name.rpartition(".")[0] + ".original"
        parts = {weights, f"{name}._u", f"{name}._v"}
        if parts & taken and not parts <= whole:
            matrix = layer._reshape_weight_to_matrix(network.get_parameter(weights))
            layer._power_method(matrix, POWER_ITERATIONS)


def summarize(done: Transfer, mentioned: int = 6) -> list[str]:
    """Return what a network took as lines of text, names grouped and few of them."""
    taken = len(done.whole) + len(done.in_part)
    share = done.taken / done.parameters if done.parameters else 0.0
    lines = [
        f"{taken} of {done.tensors} tensors taken, with {done.taken:,} of {done.parameters:,} "
        f"parameters ({share:.1%})"
    ]
    for what, entries in (
        ("taken in part", done.in_part),
        ("started afresh because of the shape", done.other_shape),
        ("started afresh, as the source has none", dict.fromkeys(done.missing, "")),
        ("left over in the source", dict.fromkeys(done.left_over, "")),
    ):
        groups: dict[tuple[str, str], list[str]] = {}
        for name, why in entries.items():
            pattern = ".".join("*" if part.isdecimal() else part for part in name.split("."))
            groups.setdefault((pattern, why), []).append(name)
        words = [
            (pattern if len(names) > 1 else names[0])
            + (f" ({len(names)} tensors)" if len(names) > 1 else "")
            + (f": {why}" if why else "")
            for (pattern, why), names in groups.items()
        ]
        more = len(words) - mentioned
        tail = [f"and {more} more"] if more > 0 else []
        if words:
            lines.append(f"{what}: {'; '.join([*words[:mentioned], *tail])}")
    return lines
