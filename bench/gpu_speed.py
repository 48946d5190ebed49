"""How fast a game is on this machine's device: the trainer, a loop of others, a collective."""

import statistics
import time
from pathlib import Path
from typing import Any

import torch
from games import setting
from setting import Loop, rate

from ganscale.devices import wait_for
from ganscale.engines import distributed
from ganscale.engines.arithmetic import set_up_arithmetic
from ganscale.networks import first_generator, grouped_convolution
from ganscale.profiling.timeline import IDLE
from ganscale.training.profile import profile_steps

REPEATS = 50


def device() -> torch.device:
    """Return what the machine trains on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def trainer(
    work: Path, overrides: tuple[str, ...], steps: int, own_convolution: bool | None = None
) -> dict[str, Any]:
    """Return the speed of the trainer's steps, and how much of the device they use.

    `own_convolution` chooses between ganscale's derivatives of grouped convolutions and PyTorch's;
    None leaves the choice to the program.
    """
    if own_convolution is not None:
        grouped_convolution.at_once = lambda device: own_convolution
    experiment = setting(work, overrides, device()).experiment
    profile = profile_steps(experiment, steps, work / "trace.json")
    assert profile is not None  # this is rank 0
    figures: dict[str, Any] = {
        "images/s": experiment.train.batch_size / profile.step_s,
        "ms a step": 1e3 * profile.step_s,
        "share of the matmul rate": profile.mfu,
        "matmul TFLOP/s": profile.matmul_rate / 1e12,
    }
    if profile.on_gpu:
        figures["kernels' share of the time"] = 1 - profile.parts[IDLE] / sum(
            profile.parts.values()
        )
    return figures | _memory()


def loop(work: Path, overrides: tuple[str, ...], steps: int, written: Loop) -> dict[str, Any]:
    """Return the speed of a loop without a trainer."""
    given = setting(work, overrides, device())
    set_up_arithmetic(given.experiment.train)
    torch.backends.cudnn.benchmark = True  # as the loops' authors set it
    speed = rate(given, written, steps)
    milliseconds = 1e3 * given.experiment.train.batch_size / speed
    return {"images/s": speed, "ms a step": milliseconds, **_memory()}


def all_reduce(work: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return what it takes to average the generator's gradients in a group of one process."""
    place = device()
    torch.distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    network = first_generator(setting(work, overrides, place).experiment).to(place)
    gradients = [torch.zeros_like(parameter) for parameter in network.parameters()]
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        distributed.average_gradients(gradients)
        wait_for(place)
        seconds.append(time.perf_counter() - start)
    torch.distributed.destroy_process_group()
    size = sum(gradient.nbytes for gradient in gradients)
    return {"ms": 1e3 * statistics.median(seconds), "MB": size / 1e6}


def _memory() -> dict[str, float]:
    if not torch.cuda.is_available():
        return {}
    return {"GiB": torch.cuda.max_memory_allocated() / 2**30}
