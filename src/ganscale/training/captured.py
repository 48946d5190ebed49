"""Replays the work on a micro-batch as a CUDA graph: one launch instead of hundreds."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganscale.engines.player import Player
from ganscale.errors import GanscaleError
from ganscale.gan.game import Measured

WARM_UP = 3
"""Calls before the capture, in which libraries choose algorithms and allocate their workspaces."""

Work = Callable[..., Measured]
"""Takes the tensors of a micro-batch, adds to the gradients, and returns what it measured."""
Replay = Callable[[], None]
Record = Callable[[Callable[[], Measured]], tuple[Measured, Replay]]
"""Returns what the work gives, and what does the work again and puts it into the same tensors."""


class _Recording(NamedTuple):
    inputs: tuple[Tensor, ...]
    measured: Measured
    replay: Replay


class CapturedWork:
    """Does the work on micro-batches from recordings, one for each variant of the work.

    What a recording reads and writes stays at its address: the inputs are copied into the tensors
    that it was made with, weights and buffers change in place, and the players' gradients are
    cleared to zero, not to None. Optimizers, reductions, the EMA and all numbers of schedules are
    outside, so that a recording is the same at every step.
    """

    def __init__(self, players: Sequence[Player], record: Record):
        self._players = players
        self._make = record
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(self, variant: Hashable, work: Work, inputs: tuple[Tensor, ...]) -> Measured:
        """Do the work on the inputs; what it measured is not overwritten by the next call.

        Two calls of the same variant may differ in the numbers that are in the inputs and in
        tensors on the device, but in nothing else.
        """
        recording = self._recordings.get(variant)
        if recording is None:
            recording = self._recordings[variant] = self._record(work, inputs)
        for static, value in zip(recording.inputs, inputs, strict=True):
            static.copy_(value)
        recording.replay()
        return {name: value.clone() for name, value in recording.measured.items()}

    def _record(self, work: Work, inputs: tuple[Tensor, ...]) -> _Recording:
        static = tuple(value.clone() for value in inputs)
        with self._leaving_no_trace():
            measured, replay = self._make(lambda: work(*static))
        return _Recording(
            static, {name: value.detach() for name, value in measured.items()}, replay
        )

    @contextmanager
    def _leaving_no_trace(self) -> Iterator[None]:
        """Restore gradients, buffers and torch's random state, which warming up changes."""
        changed: list[Tensor] = []
        for player in self._players:
            gradients = (parameter.grad for parameter in player.module.parameters())
            changed += [gradient for gradient in gradients if gradient is not None]
            changed += player.module.buffers()
        before = [tensor.clone() for tensor in changed]
        device = self._players[0].device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)


class CUDAGraphs:
    """Records work as CUDA graphs, which share their memory: no two of them run at once."""

    def __init__(self) -> None:
        self._pool: Any = None  # of whatever type a graph's pool has

    def __call__(self, work: Callable[[], Measured]) -> tuple[Measured, Replay]:
        """Do the work a few times, and record it.

        Raises `GanscaleError` if it does something that only the host can do, such as reading a
        number of the device.
        """
        # The capture has a stream of its own; gradients have to be added up on such a one before.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, such as those that load data, may use the device meanwhile.
            with torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):
                measured = work()
        except RuntimeError as error:
            if "captur" not in str(error):
                raise
            raise GanscaleError(
                f"train.cuda_graph=true: a loss cannot be captured ({str(error).splitlines()[0]}); "
                "a network, penalty or augmentation reads a number back to the host or copies one "
                "to the device: set it to false",
                every_rank=True,
            ) from error
        self._pool = graph.pool()
        return measured, graph.replay
