"""A network as a list of torch operations in JSON: read without running anybody's code.

A graph that `torch.export` saves is loaded by unpickling, which can run whatever its author likes.
This one names operations of PyTorch's core set and their arguments, and nothing else can be in it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganscale.errors import GanscaleError

EXAMPLE_BATCH = 2  # for tracing; the graph takes any number of rows
ARITHMETIC: dict[str, Callable[..., Any]] = {
    name: getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "mod", "neg")
}
"""Operations on sizes, which are numbers and not tensors."""
CHECKS = "aten._assert"
"""Operations that compute nothing."""
LOOK_UP = "aten.embedding.default"
KINDS: dict[str, tuple[type, str]] = {
    "dtype": (torch.dtype, "torch."),
    "memory_format": (torch.memory_format, "torch."),
    "layout": (torch.layout, "torch."),
}
"""Arguments that are constants of torch."""


class Graph(nn.Module):
    """A network that does what a graph lists, with the weights of a state dict."""

    def __init__(self, graph: Mapping[str, Any], weights: Mapping[str, Tensor]):
        """Raises `GanscaleError` if the graph has other operations than PyTorch's core set."""
        super().__init__()
        self._graph = graph
        self._inputs: list[str] = list(graph["inputs"])
        self._output: str = graph["output"]
        self._state: dict[str, str] = dict(graph["state"])
        self._nodes = [
            (n["name"], _operation(n["op"]), n["args"], n["kwargs"]) for n in graph["nodes"]
        ]
        self._buffers_by_name: dict[str, str] = {}
        for i, (node, name) in enumerate(self._state.items()):
            self.register_buffer(f"state{i}", weights[name])
            self._buffers_by_name[node] = f"state{i}"

    @property
    def has_batch_norm(self) -> bool:
        """True if it normalises by running statistics, which are constants here."""
        return any("batch_norm" in node["op"] for node in self._graph["nodes"])

    def written(self) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
        """Return the graph, and the tensors that it reads by their names, on the CPU."""
        names = self._buffers_by_name
        weights = {name: getattr(self, names[node]).cpu() for node, name in self._state.items()}
        return self._graph, weights

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the network's output."""
        values: dict[str, Any] = dict(zip(self._inputs, inputs, strict=True))
        for node, buffer in self._buffers_by_name.items():
            values[node] = getattr(self, buffer)
        device = inputs[0].device
        for name, operation, args, kwargs in self._nodes:
            named = {key: _decode(value, values, device) for key, value in kwargs.items()}
            values[name] = operation(*_decode(args, values, device), **named)
        output: Tensor = values[self._output]
        return output


def trace(
    network: nn.Module, inputs: tuple[Tensor, ...]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the graph of a network for any number of rows, and the tensors that it reads.

    The network is in evaluation mode; its inputs (N, …) are on the CPU.
    """
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.export.export(network, inputs, dynamic_shapes=({0: batch},) * len(inputs))
        program = program.run_decompositions()
    signature = program.graph_signature
    state = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    tensors = {**program.state_dict, **program.constants}
    nodes = []
    for node in program.graph.nodes:
        is_check = str(node.target).startswith(CHECKS)
        if node.op == "call_function" and not is_check:
            kwargs = {key: _encode(value) for key, value in node.kwargs.items()}
            call = {"op": _name(node.target), "args": _encode(node.args), "kwargs": kwargs}
            nodes.append({"name": node.name, **call})
    graph = {
        "inputs": list(signature.user_inputs),
        "state": state,
        "nodes": nodes,
        "output": signature.user_outputs[0],
    }
    return graph, {name: tensors[name].detach().contiguous() for name in state.values()}


def _name(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        _operation(str(target))
        return str(target)
    name = getattr(target, "__name__", str(target))
    if name not in ARITHMETIC and name != "getitem":
        raise GanscaleError(f"a generator that uses {target} cannot be saved as a graph")
    return name


def _operation(name: str) -> Callable[..., Any]:
    """Return what an operation's name stands for, if it can do nothing but compute."""
    if name in ARITHMETIC:
        return ARITHMETIC[name]
    if name == "getitem":
        return operator.getitem
    if name == LOOK_UP:
        return _look_up
    space, _, rest = name.partition(".")
    packet, _, overload = rest.partition(".")
    found = getattr(getattr(torch.ops.aten, packet, None), overload, None)
    if space == "aten" and isinstance(found, torch._ops.OpOverload) and _only_computes(found):
        return found
    raise GanscaleError(
        f"a saved generator uses {name}, which is none of PyTorch's core operations"
    )


def _look_up(table: Tensor, labels: Tensor, *options: Any) -> Tensor:
    """Return the rows of classes, or mixtures of rows, as `networks.conditioning.look_up` does."""
    if labels.is_floating_point():
        return labels.to(table.dtype) @ table
    rows: Tensor = torch.ops.aten.embedding.default(table, labels, *options)
    return rows


def _only_computes(operation: torch._ops.OpOverload) -> bool:
    """Return whether it gives a size, or is a core operation: these write into no tensor."""
    return operation.overloadpacket is torch.ops.aten.sym_size or torch.Tag.core in operation.tags


def _encode(value: Any) -> Any:
    if isinstance(value, torch.fx.Node):
        return {"node": value.name}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, torch.device):
        return {"device": None}  # that of the inputs
    for kind, (type_, prefix) in KINDS.items():
        if isinstance(value, type_):
            return {kind: str(value).removeprefix(prefix)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise GanscaleError(f"a generator with the constant {value!r} cannot be saved as a graph")


def _decode(value: Any, values: Mapping[str, Any], device: torch.device) -> Any:
    if isinstance(value, list):
        return [_decode(item, values, device) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "node":
        return values[content]
    if kind == "device":
        return device
    constant = getattr(torch, content, None)
    if not isinstance(constant, KINDS[kind][0]):
        raise GanscaleError(f"a saved generator has the {kind} {content!r}, which there is not")
    return constant
