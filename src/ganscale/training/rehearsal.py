"""A step of training without its numbers: what it computes and holds is counted, not done.

The step is the trainer's own. Its tensors are fake ones, which have a shape, a type and a lifetime
but no memory, so a step of any size is counted in the time that Python needs to go through it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)

from ganscale.config import Experiment, Train
from ganscale.data.reading.readers import TENSOR_TYPES, Batch
from ganscale.engines.launcher import Launcher
from ganscale.engines.player import Player
from ganscale.errors import GanscaleError
from ganscale.networks import grouped_convolution
from ganscale.philox import random_bits
from ganscale.profiling.operations import Counting
from ganscale.training.model import GANModel
from ganscale.training.statistics import Statistics
from ganscale.training.update import GANStep, Phase

FAKE = FakeTensorMode(allow_non_fake_inputs=True)
FAKE_CANNOT = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
)
LONGEST_CYCLE = 10_000  # updates of the discriminator that are looked at for the penalties due


class Update(NamedTuple):
    """One kind of update, and how many of it a step has on average."""

    number: float
    counted: Counting


class Rehearsal:
    """Counts the updates of a step for one micro-batch of an experiment on one rank."""

    def __init__(self, experiment: Experiment, images: int, *, gpu: bool = True):
        """Go through each kind of update once, with `images` rows, as on a GPU or on a CPU.

        Raises `GanscaleError` if a network computes with the numbers of its tensors in Python.
        """
        # None of these changes what is counted, and SyncBatchNorm has no CPU kernel.
        alone = {"accumulation": 1, "sync_batch_norm": False, "compile": False, "cuda_graph": False}
        train = experiment.train.model_copy(update=alone)
        self._experiment = experiment.model_copy(update={"train": train})
        self._images = images
        model = GANModel(self._experiment, Launcher(), _make_players)
        self.parameters = {
            player.name: sum(parameter.numel() for parameter in player.module.parameters())
            for player in (model.generator, model.discriminator)
        }
        self.frozen = sum(
            parameter.numel()
            for parameter in model.discriminator.module.parameters()
            if not parameter.requires_grad
        )
        self._step = GANStep(self._experiment, model, range(images))
        # The first draw compares two kernels, which it cannot do with numbers that are not there.
        random_bits(0, torch.zeros(1, dtype=torch.int64, device=model.device), 1)
        try:
            with _grouped_convolutions(at_once=gpu):
                self.updates = [*self._discriminator_updates(), self._generator_update()]
        except FAKE_CANNOT as error:
            raise GanscaleError(
                "a step cannot be counted without running it: a network or a penalty computes "
                f"with the numbers of its tensors in Python ({str(error).splitlines()[0]})"
            ) from error

    def over_step(self, measure: Callable[[Counting], float]) -> float:
        """Return the sum of a measure over the updates of one step."""
        return sum(number * measure(counted) for number, counted in self.updates)

    @property
    def peak(self) -> int:
        """The most bytes that an update creates and holds at one time, gradients included."""
        return max(counted.peak for _, counted in self.updates)

    def _discriminator_updates(self) -> Iterator[Update]:
        """Yield an update for each set of penalties that is due at some time."""
        periods = [penalty.every for penalty in self._experiment.objective.penalties]
        cycle = min(math.lcm(*periods), LONGEST_CYCLE)
        due = [tuple(number % period == 0 for period in periods) for number in range(cycle)]
        for kind, occurrences in Counter(due).items():
            number = self._experiment.discriminator.steps * occurrences / cycle
            yield Update(number, self._count(self._step.phases[0], due.index(kind)))

    def _generator_update(self) -> Update:
        return Update(1, self._count(self._step.phases[1], 0))

    def _count(self, phase: Phase, number: int) -> Counting:
        shape = (self._images, *self._experiment.image_shape)
        counting = Counting()
        with FAKE, counting:
            dtype = TENSOR_TYPES[self._experiment.data.bits]
            pixels = torch.empty(shape, dtype=dtype)
            labels = torch.empty(self._images, dtype=torch.int64)
            self._step.update(phase, number, Batch(pixels, labels), Statistics(), measure=False)
        return counting


def flop_per_image(experiment: Experiment) -> float:
    """Return the FLOP of a step, of all updates of both players, divided by its batch."""
    return Rehearsal(experiment, 1).over_step(lambda update: update.flop)


class _NoAccelerator:
    """What a player asks of its Accelerator, for a process without others."""

    device = torch.device("cpu")

    def backward(self, loss: Tensor) -> None:
        loss.backward()


class _RehearsedPlayer(Player):
    """A player with fake weights and moments, alone whatever process group there is."""

    def _prepare(self, optimizer: torch.optim.Optimizer, train: Train) -> None:
        with FAKE:
            _make_fake(self.module)
            (group,) = optimizer.param_groups
            group["params"] = list(self.module.parameters())
            for parameter in group["params"]:  # as after the first step
                moments = {key: torch.empty_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
                optimizer.state[parameter] = {"step": torch.zeros(()), **moments}
        self.optimizer = optimizer

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        yield
        if last:
            self._fill_gradients()


def _make_players(
    experiment: Experiment, launcher: Launcher, generator: nn.Module, discriminator: nn.Module
) -> tuple[Player, Player]:
    alone = cast(Accelerator, _NoAccelerator())
    first, second = experiment.generator, experiment.discriminator
    return (
        _RehearsedPlayer("generator", alone, generator, first, experiment.train),
        _RehearsedPlayer("discriminator", alone, discriminator, second, experiment.train),
    )


@contextmanager
def _grouped_convolutions(at_once: bool) -> Iterator[None]:
    """Let grouped convolutions differentiate as on a GPU: fake tensors are those of a CPU."""
    before = grouped_convolution.at_once
    grouped_convolution.at_once = lambda device: at_once
    try:
        yield
    finally:
        grouped_convolution.at_once = before


def _make_fake(network: nn.Module) -> None:
    """Replace all weights and buffers by fake ones; the modules themselves stay."""
    fakes: dict[int, nn.Parameter] = {}  # two modules may share one
    for module in network.modules():
        for name, old in module._parameters.items():
            if old is not None:
                fake = nn.Parameter(_fake(old), old.requires_grad)
                module._parameters[name] = fakes.setdefault(id(old), fake)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _fake(buffer)


def _fake(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
