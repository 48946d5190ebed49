"""What is counted without computing, against steps that were computed, for every recipe."""

import functools
import gc
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.data.reading.readers import Batch
from ganscale.errors import GanscaleError
from ganscale.profiling.operations import convolution_backward_flop
from ganscale.training.rehearsal import Rehearsal, flop_per_image
from ganscale.training.statistics import Statistics
from ganscale.training.update import GANStep
from tests.models import make_step

CONFIGS = Path(__file__).parents[2] / "configs"
SMALLER = {
    "cifar10_r3gan": (2, "widths", [48] * 4),
    "cifar10_sngan": (4, "width", 64),
    "cifar10_wgan_gp": (4, "width", 64),
    "folder_dcgan128": (1, "width", 16),
    "folder_dcgan256": (1, "width", 16),
}
"""Images and channels with which a large recipe takes a second."""
RECIPES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def formula(*args: Any, **kwargs: Any) -> int:
    """The package's formula counts too much for grouped convolutions; ours has its own test."""
    return convolution_backward_flop(*args, **kwargs)


formula._get_raw = True  # type: ignore[attr-defined]  # it takes tensors, not shapes
FORMULAS = {torch.ops.aten.convolution_backward: formula}


class NoModules:
    """For a `FlopCounterMode` that need not know which module is running.

    The hooks by which it would know refuse `autograd.grad` by an input.
    """

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def recipe(name: str) -> Experiment:
    images, key, value = SMALLER.get(name, (4, "", 0))
    overrides = [f"train.batch_size={images}"]
    if key:
        overrides += [
            f"{player}.network.{key}={value}" for player in ("generator", "discriminator")
        ]
    return load(CONFIGS / f"{name}.yaml", overrides)


@functools.cache
def rehearsed(name: str) -> Rehearsal:
    experiment = recipe(name)
    return Rehearsal(experiment, experiment.train.batch_size, gpu=False)


def batch_of(experiment: Experiment) -> Batch:
    size = experiment.train.batch_size
    pixels = torch.zeros(size, *experiment.image_shape, dtype=torch.uint8)
    return Batch(pixels, torch.zeros(size, dtype=torch.int64))


def update_all(step: GANStep, experiment: Experiment) -> None:
    """Run the update with all penalties due, and the generator's."""
    for phase in step.phases:
        step.update(phase, 0, batch_of(experiment), Statistics(), measure=False)


def allocated_bytes(work: Callable[[], Any]) -> int:
    """Return the most bytes that PyTorch's allocator held at one time for what `work` made."""
    gc.collect()  # or an earlier test's tensors are freed meanwhile
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            kept = work()
    finally:
        gc.enable()
    del kept
    results = profiled.profiler.kineto_results  # type: ignore[union-attr]
    held = peak = 0
    for event in results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@pytest.mark.parametrize("name", RECIPES)
def test_memory_is_what_a_real_run_allocates(name: str) -> None:
    experiment = recipe(name)

    def work() -> Any:
        model, step = make_step(experiment)
        update_all(step, experiment)
        update_all(step, experiment)  # with Adam's moments
        return model

    measured = allocated_bytes(work)
    rehearsal = rehearsed(name)
    generator, discriminator = rehearsal.parameters.values()
    state = 4 * (generator + discriminator) * 3 + 4 * generator  # with the moments and the average
    assert state + rehearsal.peak == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("name", RECIPES)
def test_flop_is_that_of_a_real_step(name: str) -> None:
    experiment = recipe(name)
    _, step = make_step(experiment)
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    counter.mod_tracker = NoModules()
    with counter:
        update_all(step, experiment)
    updates = rehearsed(name).updates
    assert updates[0].counted.flop + updates[-1].counted.flop == counter.get_total_flops()


def test_penalties_count_as_often_as_they_are_due() -> None:
    overrides = [
        "objective.penalties=[{kind: r1, weight: 1, every: 2}, {kind: r2, weight: 1, every: 3}]",
        "discriminator.network.norm=none",
        "discriminator.steps=5",
    ]
    experiment = load(CONFIGS / "mnist_dcgan.yaml", overrides)
    numbers = [update.number for update in Rehearsal(experiment, 2).updates]
    # Of six updates one has both, two have R1 alone, one has R2 alone, two have none.
    assert sorted(numbers) == pytest.approx([5 / 6, 5 / 6, 1, 10 / 6, 10 / 6])


def test_flop_of_an_image_is_that_of_the_mlp_by_hand() -> None:
    experiment = load(CONFIGS / "mnist_mlp.yaml")
    generator = 2 * (100 * 784 + 784 * 256 + 256 * 784)
    discriminator = 2 * (784 * 256 + 256)
    # D: a forward of G, then two images through D: forward and the gradients of its weights, and of
    # all but the first layer's input. G: forward and backward of both, but D's weights are frozen.
    first = 2 * 784 * 256
    of_discriminator = generator + 2 * (3 * discriminator - first)
    of_generator = 3 * generator - 2 * 100 * 784 + 2 * discriminator
    assert flop_per_image(experiment) == of_discriminator + of_generator


def test_rehearsing_leaves_the_random_state_alone() -> None:
    experiment = recipe("mnist_dcgan")
    before = torch.random.get_rng_state()
    Rehearsal(experiment, 2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_network_that_reads_its_numbers_is_refused(tmp_path: Path) -> None:
    code = """
        from torch import nn
        class Peeking(nn.Module):
            def __init__(self, image_shape):
                super().__init__()
                self.layer = nn.Linear(image_shape[1] ** 2, 1)
            def forward(self, images):
                scale = float(images.max())
                return self.layer(images.flatten(1)).flatten() / scale
    """
    (tmp_path / "peeking.py").write_text(dedent(code))
    network = f"discriminator.network={{architecture: '{tmp_path}/peeking.py:Peeking'}}"
    experiment = load(None, [network])
    with pytest.raises(GanscaleError, match="cannot be counted without running it"):
        Rehearsal(experiment, 2)
