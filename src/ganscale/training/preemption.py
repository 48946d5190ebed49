"""Stopping in good order: a signal asks, and all ranks stop after the same step."""

import signal
from types import FrameType

import torch
from accelerate import Accelerator

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
AGREE_EVERY = 10  # steps; asking all ranks costs a reduction and a wait for the device


class StopRequest:
    """Remembers a signal until the step is done, as a context around training.

    The second SIGINT is let through: someone at the keyboard means it.
    """

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self._old: dict[int, object] = {}
        self.signal = 0

    def __enter__(self) -> "StopRequest":
        self._old = {s: signal.signal(s, self._remember) for s in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def agreed(self, step: int) -> bool:
        """Whether the run stops after `step`: the same answer on every rank."""
        if self._accelerator.num_processes == 1:
            return self.signal != 0
        if step % AGREE_EVERY:
            return False
        asked = torch.tensor(self.signal, device=self._accelerator.device)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        self.signal = int(asked)
        return self.signal != 0
