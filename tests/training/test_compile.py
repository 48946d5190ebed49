"""The compiled step: the numbers of the eager one, and no graph more than there are losses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from ganscale.config import Experiment
from ganscale.training.compiled import compile_whole
from tests.conftest import tiny
from tests.models import make_step
from tests.reference import real_batches

STEPS = 4
TEXTBOOK: dict[str, Any] = {"architecture": "mlp", "hidden": [16]}
DCGAN: dict[str, Any] = {"architecture": "dcgan", "width": 4}
R1_AND_R2 = "objective.penalties=[{kind: r1, weight: 1}, {kind: r2, weight: 1}]"
# The number of graphs, both networks, what else.
GAMES: dict[str, tuple[int, dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "textbook": (2, TEXTBOOK, TEXTBOOK, ()),
    "lazy penalties, one on a schedule": (
        3,
        TEXTBOOK,
        TEXTBOOK,
        (
            "objective.loss=relativistic",
            "objective.penalties=[{kind: r1, weight: {from: 3, to: 1, until: 4 steps}, every: 2},"
            "{kind: dragan, weight: 1, every: 2}]",
        ),
    ),
    "augmented, in noise that fades": (
        2,
        TEXTBOOK,
        TEXTBOOK,
        (
            "data.flip=true",
            "augment.policy=[color, translation, cutout]",
            "augment.probability={from: 0, to: 1, until: 4 steps}",
            "augment.noise_std={from: 0.5, to: 0, until: 3 steps}",
        ),
    ),
    "conditional, accumulated": (
        4,
        TEXTBOOK,
        TEXTBOOK,
        ("data.classes=10", "train.accumulation=2", R1_AND_R2),
    ),
    "BatchNorm": (2, DCGAN, DCGAN, ()),
    "spectral norm, frozen": (
        2,
        DCGAN,
        DCGAN | {"norm": "spectral"},
        (R1_AND_R2, "init_from.source=elsewhere", "discriminator.freeze=2"),
    ),
    "bf16": (2, TEXTBOOK, DCGAN | {"norm": "none"}, (R1_AND_R2, "train.precision=bf16")),
}


def make(digits: Path, folder: Path, name: str) -> Experiment:
    _, generator, discriminator, overrides = GAMES[name]
    values = tiny(digits, folder, *overrides).model_dump(mode="json")
    values["generator"]["network"] = generator
    values["discriminator"]["network"] = discriminator
    return Experiment.model_validate(values)


def play(experiment: Experiment) -> dict[str, Any]:
    model, step = make_step(experiment)
    n = experiment.discriminator.steps
    for k in range(STEPS):
        model.rates.apply(k)
        step(k, real_batches(experiment, k * n, n), measure=k == 1)
    return {
        f"{player.name} {name}": value.clone()
        for player in (model.generator, model.discriminator)
        for name, value in player.module.state_dict().items()
    }


@pytest.mark.parametrize("name", GAMES)
def test_compiled_is_eager(
    digits: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make(digits, tmp_path, name)
    eager = play(experiment)
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **k: whole(f, backend="aot_eager", **k))
    torch._dynamo.reset()
    counters.clear()
    compiled = play(
        experiment.model_copy(
            update={"train": experiment.train.model_copy(update={"compile": True})}
        )
    )
    assert counters["stats"]["unique_graphs"] == GAMES[name][0], counters["recompiles"]
    for key, value in eager.items():
        assert torch.allclose(value, compiled[key], rtol=1e-4, atol=1e-6), key


def test_many_micro_batches_and_sets_of_penalties_have_a_graph_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch gives up after eight, unless it is told not to."""
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **k: whole(f, backend="eager", **k))
    torch._dynamo.reset()
    counters.clear()
    loss = compile_whole(lambda rows, images: images.sum() + rows.start)
    for start in range(20):
        assert float(loss(range(start, start + 1), torch.ones(2))) == start + 2
    assert counters["stats"]["unique_graphs"] == 20


class Watching(TorchDispatchMode):
    """Counts what makes the host wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        self.read += operation is torch.ops.aten._local_scalar_dense.default
        return operation(*arguments, **keywords or {})


@pytest.mark.parametrize("name", GAMES)
def test_a_step_that_is_not_logged_reads_no_number_back(
    digits: Path, tmp_path: Path, name: str
) -> None:
    experiment = make(digits, tmp_path, name)
    model, step = make_step(experiment)
    batches = real_batches(experiment, 0, STEPS)
    step(0, batches[:1], measure=False)
    with Watching() as watching:
        for k in range(1, STEPS):
            model.rates.apply(k)
            step(k, batches[k : k + 1], measure=False)
    assert watching.read == 0
