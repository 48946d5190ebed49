"""Stopping and saving in good order: all ranks do it after the same step.

The request is a signal (from a scheduler or Ctrl-C) or a file in the run folder (`ganscale stop`,
`ganscale save`). Files reach a run whose processes nobody can signal, on whatever machine.
"""

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch

from ganscale.engines.distributed import Ranks, all_reduce
from ganscale.runs.run_folder import SAVE, STOP

WARNING = getattr(signal, "SIGUSR1", None)  # of the time limit, as the batch scripts ask for it
SIGNALS = (signal.SIGTERM, signal.SIGINT, *([] if WARNING is None else [WARNING]))
AGREE_EVERY = 10  # steps; asking all ranks costs a reduction and a wait for the device
LOOK_EVERY_S = 1.0  # a shared file system is slow to ask
STANDARD_ERROR = 2
HEARD = "\nganscale: saving and ending as soon as this step is done; Ctrl-C again ends at once\n"


class Agreement(NamedTuple):
    """What all ranks have agreed to do after a step."""

    stop: bool = False
    save: bool = False


class StopRequest:
    """Remembers requests until the step is done; a context manager that encloses training.

    The second SIGINT is let through: someone at the keyboard means it.
    """

    def __init__(self, ranks: Ranks, device: torch.device, folder: Path):
        self._ranks = ranks
        self._device = device
        self._folder = folder
        self._looked = 0.0
        self._old: dict[int, object] = {}
        self._observer_wants_stop = False
        self.signal = 0

    def __enter__(self) -> "StopRequest":
        # Python lets no other thread than the main one handle signals.
        if threading.current_thread() is threading.main_thread():
            self._old = {s: signal.signal(s, self._remember) for s in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @property
    def reason(self) -> str:
        """Who asked to stop."""
        if self.signal == signal.SIGINT:
            return "Ctrl-C"
        if self.signal:
            return f"signal {self.signal}"
        return "a callback" if self._observer_wants_stop else "ganscale stop"

    @property
    def is_resumed_by_slurm(self) -> bool:
        """True if Slurm's warning stopped the run: the job is then put into the queue again."""
        return self.signal == WARNING and "SLURM_JOB_ID" in os.environ

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGINT and self._ranks.is_main:
            # A log line or a print could be interrupted by itself.
            os.write(STANDARD_ERROR, HEARD.encode())
        self.signal = number

    def agreed(self, step: int, observer_wants_stop: bool = False) -> Agreement:
        """Return what happens after `step`: the same answer on every rank."""
        self._observer_wants_stop = observer_wants_stop
        alone = self._ranks.world_size == 1
        if not alone and step % AGREE_EVERY:
            return Agreement()
        stop, save = self._found()
        stop |= observer_wants_stop
        if not alone:
            asked = torch.tensor([self.signal, stop, save], device=self._device)
            self.signal, stop, save = all_reduce(asked, "max").tolist()
        return Agreement(bool(stop or self.signal), bool(save))

    def _found(self) -> tuple[bool, bool]:
        """Return whether files ask to stop and to save; rank 0 looks now and then."""
        now = time.monotonic()
        if not self._ranks.is_main or now - self._looked < LOOK_EVERY_S:
            return False, False
        self._looked = now
        return _take(self._folder / STOP), _take(self._folder / SAVE)


def _take(path: Path) -> bool:
    """Remove the file, and return whether it was there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
