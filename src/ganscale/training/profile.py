"""Runs some real steps of an experiment under a profiler. Nothing is written but the trace."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from ganscale.config import Experiment
from ganscale.devices import wait_for
from ganscale.engines.launcher import Launcher
from ganscale.engines.player import DTYPES
from ganscale.errors import GanscaleError
from ganscale.monitoring.progress import set_up_logging
from ganscale.profiling.marks import DATA, PREFIX, STEP, mark
from ganscale.profiling.matmul_rate import measure_matmul_rate
from ganscale.profiling.timeline import read_events, seconds_by_part
from ganscale.training.rehearsal import flop_per_image
from ganscale.training.trainer import Trainer

log = logging.getLogger("ganscale")

WARM_UP = 4  # steps in which libraries choose algorithms and workers start


class Operation(NamedTuple):
    """An operation, and what it takes in a step by itself, without the operations that it calls."""

    name: str
    calls: float
    seconds: float


@dataclass(frozen=True)
class Profile:
    """What the steps of a run take on one rank."""

    device: str
    data: str
    """How the data is read, in words."""
    in_memory: bool
    """True if the dataset lies decoded in memory."""
    world_size: int
    step_s: float
    """Seconds of a step without the profiler."""
    profiled_s: float
    """Seconds of a step with the profiler, which holds up small operations most."""
    parts: dict[str, float]
    """Seconds of a profiled step by part; together they are the whole step."""
    operations: list[Operation]
    """Operations of a profiled step, the longest first."""
    flop_per_image: float | None
    """None if a step cannot be counted."""
    flop_per_s: float | None
    """What a rank reaches without the profiler."""
    matmul_rate: float
    """FLOP/s of a large matrix product in the networks' precision on this device."""

    @property
    def on_gpu(self) -> bool:
        """True if the steps ran on a GPU."""
        return self.device != "cpu"

    @property
    def mfu(self) -> float | None:
        """Share of the measured matmul rate that the steps reach."""
        return None if self.flop_per_s is None else self.flop_per_s / self.matmul_rate


def profile_steps(experiment: Experiment, steps: int, trace: Path) -> Profile | None:
    """Train for some steps, write a Chrome trace of them, and return what they took.

    After a warm-up, `steps` steps are timed and as many are profiled. No run folder is read or
    written. Every rank calls it; all but rank 0 return None.
    """
    unscored = experiment.evaluation.model_copy(update={"every": None})
    experiment = experiment.model_copy(update={"evaluation": unscored})
    launcher = Launcher.from_environment()
    set_up_logging(launcher.rank)
    trainer = Trainer(experiment, launcher)
    device, ranks, source = trainer.model.device, trainer.ranks, trainer.batch_source
    run = _Steps(trainer, WARM_UP + 2 * steps)
    run(WARM_UP)
    step_s = run(steps) / steps
    gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    if device.type not in ("cpu", "cuda"):
        log.warning("the profile shows the host's time: it knows no work of a %s", device.type)
    with profile(activities=[ProfilerActivity.CPU, *gpu]) as profiled:
        profiled_s = run(steps) / steps
    trainer.end()
    if not ranks.is_main:
        return None
    profiled.export_chrome_trace(str(trace))
    seconds = seconds_by_part(*read_events(profiled.events() or []))
    precision = DTYPES.get(experiment.train.precision, torch.float32)
    try:
        flop = flop_per_image(experiment)
    except GanscaleError as error:
        log.warning("%s", error)
        flop = None
    part_of_batch = experiment.train.batch_size / ranks.world_size
    return Profile(
        trainer.arithmetic.device,
        source.description,
        source.in_memory,
        ranks.world_size,
        step_s,
        profiled_s,
        {part: total / steps for part, total in seconds.items()},
        _operations(profiled, steps),
        flop,
        None if flop is None else flop * part_of_batch / step_s,
        measure_matmul_rate(device, precision),
    )


class _Steps:
    """The first steps of a run, one after another; called with a number of them, it does those."""

    def __init__(self, trainer: Trainer, last: int):
        self._step = trainer.gan_step
        self._model = trainer.model
        self._updates = trainer.experiment.discriminator.steps
        self._batches = trainer.batch_source.batches(0, last * self._updates)
        self._done = 0

    def __call__(self, steps: int) -> float:
        """Return the seconds that the steps took on the device."""
        wait_for(self._model.device)
        start = time.perf_counter()
        for _ in range(steps):
            with mark(STEP):
                with mark(DATA):
                    batches = [next(self._batches) for _ in range(self._updates)]
                self._model.rates.apply(self._done)
                self._step(self._done, batches, measure=False)
            self._done += 1
        wait_for(self._model.device)
        return time.perf_counter() - start


def _operations(profiled: profile, steps: int) -> list[Operation]:
    """Return the operations by the time that each takes on the device, the longest first."""
    rows = []
    for row in profiled.key_averages():
        own = row.self_device_time_total or row.self_cpu_time_total
        if not row.key.startswith(PREFIX) and own > 0:
            rows.append(Operation(row.key, row.count / steps, own / 1e6 / steps))
    return sorted(rows, key=lambda row: -row.seconds)
