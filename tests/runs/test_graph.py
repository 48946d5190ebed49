"""Every generator is a list of core operations, and no list can do anything but compute."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ganscale.config.load import load
from ganscale.errors import GanscaleError
from ganscale.networks import first_generator
from ganscale.runs.graph import Graph, trace

RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
NARROW = {"mlp": {"hidden": (8,)}, "r3gan": {"widths": (16, 16, 16, 16)}}


def written_and_read(network: nn.Module, inputs: tuple[Tensor, ...]) -> Graph:
    graph, weights = trace(network, inputs)
    return Graph(json.loads(json.dumps(graph)), weights)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_generator_of_every_recipe(recipe: Path) -> None:
    experiment = load(recipe, [])
    network = experiment.generator.network
    narrow = NARROW.get(network.architecture, {"width": 4})
    options = network.model_copy(update=narrow)
    generator = first_generator(
        experiment.model_copy(
            update={"generator": experiment.generator.model_copy(update={"network": options})}
        )
    ).eval()
    classes = experiment.data.classes
    labels = (torch.arange(7) % classes,) if classes else ()
    inputs = (torch.randn(7, experiment.latent.dim), *labels)
    graph = written_and_read(generator, tuple(value[:2] for value in inputs))
    with torch.no_grad():
        assert torch.allclose(graph(*inputs), generator(*inputs), atol=1e-5)


@pytest.mark.parametrize(
    "operation",
    [
        "aten.from_file.default",  # reads a file
        "os.system",
        "prims.convert_element_type.default",
        "aten.__init__.default",
        "aten.add_.Tensor",  # would write into the weights
        "eval",
    ],
)
def test_what_is_no_core_operation_is_refused(operation: str) -> None:
    graph, weights = trace(nn.Linear(3, 2), (torch.randn(2, 3),))
    graph = copy.deepcopy(graph)
    graph["nodes"][0]["op"] = operation
    with pytest.raises(GanscaleError, match="none of PyTorch's core operations"):
        Graph(graph, weights)


def test_a_constant_is_no_attribute_of_torch_at_will() -> None:
    graph, weights = trace(nn.Linear(3, 2), (torch.randn(2, 3),))
    graph["nodes"][0]["kwargs"] = {"dtype": {"dtype": "load"}}
    with pytest.raises(GanscaleError, match="load"):
        Graph(graph, weights)(torch.randn(2, 3))
