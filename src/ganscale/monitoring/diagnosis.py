"""Checks of this machine: what it has, what would not work here, and how to fix that."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from ganscale import devices
from ganscale.engines.distributed import available_backends, backend_of
from ganscale.monitoring.environment import environment

MIN_DISK_GIB = 2
MIN_SHM_MIB = 512

Finding = tuple[str, str, str]
"""The level (`ok`, `note` or `FAULT`), what was found, and how to fix it."""


def findings() -> dict[str, Finding]:
    """Run every check of this machine and return the findings by name."""
    return {name: check() for name, check in CHECKS.items()}


def _versions() -> Finding:
    facts = environment()
    shown = ("ganscale", "python", "torch", "torchvision", "accelerate", "webdataset", "wandb")
    return "ok", ", ".join(f"{name} {facts[name]}" for name in shown), ""


def _torchvision() -> Finding:
    try:
        import torchvision  # noqa: F401 - registers its operators if the builds match

        torch.ops.torchvision.nms  # noqa: B018 - raises AttributeError if they do not
    except (RuntimeError, AttributeError, ImportError) as error:
        return (
            "FAULT",
            f"torchvision does not match torch: {error}",
            "install torch and torchvision together, from the same index",
        )
    return "ok", "torchvision matches torch", ""


def _gpus() -> Finding:
    names = devices.accelerator_names()
    if not names:
        return "note", "no GPU: training runs on the CPU", ""
    kind = devices.best_device().type
    for number, name in enumerate(names):
        memory = devices.memory_of(torch.device(kind, number))
        if memory is not None:
            names[number] = f"{name} ({memory[1] / 2**30:.0f} GiB)"
    return "ok", ", ".join(names), ""


def _communication() -> Finding:
    backends = available_backends()
    found = ", ".join(backends)
    wanted = backend_of(devices.best_device())
    if devices.count_accelerators() > 1 and wanted not in backends:
        return "FAULT", f"several GPUs but no {wanted}", "install the build of torch for these GPUs"
    return ("ok", found, "") if found else ("note", "none: only one process can train", "")


def _machine() -> Finding:
    memory = psutil.virtual_memory()
    free = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB memory free"
    return "ok", f"{os.cpu_count()} CPU cores, {free}", ""


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    found = f"{free:,.1f} GiB free here"
    if free < MIN_DISK_GIB:
        return "FAULT", found, "checkpoints need space: set runs=DIR to a folder on a larger disk"
    return "ok", found, ""


def _shared_memory() -> Finding:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return "note", "no /dev/shm", ""
    free = shutil.disk_usage(shm).free / 2**20
    found = f"{free:,.0f} MiB free in /dev/shm"
    if free < MIN_SHM_MIB:
        return "note", found, "data workers need it to send batches: docker run --shm-size=8g"
    return "ok", found, ""


def _wandb() -> Finding:
    import wandb

    if wandb.login(prompt=False, verify=False):
        return "ok", "logged in", ""
    return (
        "note",
        "not logged in: runs are logged offline",
        "wandb login; to upload earlier runs: wandb sync RUN/wandb/offline-run-*",
    )


def _optional(command: str, what: str) -> Finding:
    path = shutil.which(command)
    return ("ok", path, "") if path else ("note", f"not installed: {what}", "")


def _deepspeed() -> Finding:
    version = environment()["deepspeed"]
    if version == "not installed":
        return "note", "not installed: DDP and FSDP2 only", "pip install 'ganscale[deepspeed]'"
    return "ok", version, ""


CHECKS: dict[str, Callable[[], Finding]] = {
    "versions": _versions,
    "torchvision": _torchvision,
    "GPUs": _gpus,
    "communication": _communication,
    "machine": _machine,
    "disk": _disk,
    "shared memory": _shared_memory,
    "W&B": _wandb,
    "DeepSpeed": _deepspeed,
    "Slurm": lambda: _optional("sbatch", "start runs with accelerate launch"),
    "compiler": lambda: _optional("cc", "only DeepSpeed's own kernels need it"),
}
