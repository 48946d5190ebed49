"""One Accelerator for each player, for the engine that the launcher asks for.

The launcher says how the processes share the state of a network; the experiment says everything
that decides what is computed. Neither reaches the update.
"""

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import nn

from ganscale.config import Experiment
from ganscale.devices import HOST, best_device
from ganscale.engines import distributed
from ganscale.engines.deepspeed_config import complete_deepspeed_config
from ganscale.engines.launcher import Launcher
from ganscale.engines.player import Player
from ganscale.engines.rules import refuse_unfit_device, refuse_unfit_engine
from ganscale.errors import GanscaleError

CHOOSING_ENGINE = (
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_MEGATRON_LM",
    "ACCELERATE_DEEPSPEED_",
    "ACCELERATE_CONFIG_DS_",
)
"""Beginnings of the variables by which Accelerate chooses an engine."""

log = logging.getLogger("ganscale")


class Accelerators(NamedTuple):
    """Each player's Accelerator: under DeepSpeed each has an engine of its own."""

    generator: Accelerator
    discriminator: Accelerator


def build_players(
    experiment: Experiment, launcher: Launcher, generator: nn.Module, discriminator: nn.Module
) -> tuple[Player, Player]:
    """Return the generator's and the discriminator's player on the launcher's engine.

    A machine without a GPU trains on its CPU. Raises `GanscaleError` if the engine or the device
    cannot train this experiment, or if the processes did not find each other.
    """
    accelerators = make_accelerators(experiment, launcher)
    module, _, name = launcher.engine.player.partition(":")
    kind: type[Player] = getattr(importlib.import_module(module), name)
    train = experiment.train
    return (
        kind("generator", accelerators.generator, generator, experiment.generator, train),
        kind(
            "discriminator",
            accelerators.discriminator,
            discriminator,
            experiment.discriminator,
            train,
        ),
    )


def make_accelerators(experiment: Experiment, launcher: Launcher) -> Accelerators:
    """Form the process group and return both Accelerators."""
    engine, device = launcher.engine, choose_device(launcher)
    gpus = device.type != "cpu"
    refuse_unfit_engine(experiment, engine, gpus=gpus)
    refuse_unfit_device(experiment.train, device)
    _warn_of_other_precision(experiment, launcher)
    timeout = timedelta(seconds=experiment.train.timeout)
    distributed.join_restarted_group(launcher.attempt, timeout, device)
    # The player applies the engine and the experiment's precision. Accelerate would otherwise
    # build a plugin of its own from the same variables.
    with _without_variables(*CHOOSING_ENGINE):
        if engine.deepspeed:
            accelerators = _make_for_deepspeed(experiment, launcher, timeout, gpus)
        else:
            group = InitProcessGroupKwargs(timeout=timeout)
            accelerators = Accelerators(
                *(
                    Accelerator(cpu=not gpus, mixed_precision="no", kwargs_handlers=[group])
                    for _ in Accelerators._fields
                )
            )
    _refuse_missing_ranks(launcher, accelerators.generator.num_processes)
    return accelerators


def connect(launcher: Launcher, timeout_s: float) -> torch.device:
    """Form the process group for work that trains nothing; return this process's device.

    The engine does not matter. Raises `GanscaleError` if the processes did not find each other.
    """
    device, timeout = choose_device(launcher), timedelta(seconds=timeout_s)
    distributed.join_restarted_group(launcher.attempt, timeout, device)
    group = InitProcessGroupKwargs(timeout=timeout)
    with _without_variables(*CHOOSING_ENGINE):
        accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[group]
        )
    _refuse_missing_ranks(launcher, accelerator.num_processes)
    found: torch.device = accelerator.device
    return found


def _refuse_missing_ranks(launcher: Launcher, found: int) -> None:
    """Raise `GanscaleError` if the processes that the launcher has started are not all there."""
    if found != launcher.world_size:
        raise GanscaleError(
            f"WORLD_SIZE={launcher.world_size} in the environment, but this process found "
            f"{found - 1} others: a launcher sets RANK, LOCAL_RANK and MASTER_ADDR too; without "
            "one, unset WORLD_SIZE",
            every_rank=True,
        )


def choose_device(launcher: Launcher) -> torch.device:
    """Return the kind of device that this process trains on, without its number.

    The GPU of a Mac is for a single process: PyTorch has no collectives on MPS, and processes that
    share the machine train on its CPU.
    """
    device = best_device()
    if device.type == "mps" and (launcher.world_size > 1 or launcher.engine.deepspeed):
        if launcher.rank == 0:
            log.warning(
                "training on the CPU: the GPU of a Mac (MPS) is used by a single process without "
                "DeepSpeed only"
            )
        return HOST
    return device


def _warn_of_other_precision(experiment: Experiment, launcher: Launcher) -> None:
    """Say that the launcher's --mixed_precision has no effect, if it asks for another one."""
    asked, precision = launcher.mixed_precision, experiment.train.precision
    if asked not in ("no", precision) and launcher.rank == 0:
        log.warning(
            "accelerate launch asks for mixed_precision=%s and the experiment for "
            "train.precision=%s: the experiment decides, so change it there",
            asked,
            precision,
        )


@contextmanager
def _without_variables(*prefixes: str) -> Iterator[None]:
    """Hide environment variables from a library, and put them back afterwards."""
    names = [name for name in os.environ if name.startswith(prefixes)]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _make_for_deepspeed(
    experiment: Experiment, launcher: Launcher, timeout: timedelta, gpus: bool
) -> Accelerators:
    if not gpus:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when DeepSpeed is imported
    try:
        import deepspeed
        import transformers  # noqa: F401 - Accelerate's choice between plugins needs it
    except ImportError as error:
        raise GanscaleError(
            f"the launcher asks for DeepSpeed, and {error.name} is not installed: "
            "pip install 'ganscale[deepspeed]'",
            every_rank=True,
        ) from None
    from accelerate.utils import DeepSpeedPlugin

    deepspeed.utils.logger.setLevel(logging.WARNING)
    clip_norms = {
        "generator": experiment.generator.clip_norm,
        "discriminator": experiment.discriminator.clip_norm,
    }
    plugins = {
        player: DeepSpeedPlugin(
            hf_ds_config=complete_deepspeed_config(
                launcher.engine.deepspeed, experiment, clip_norm, launcher.world_size
            )
        )
        for player, clip_norm in clip_norms.items()
    }
    # Without the backend's name Accelerate would take each rank for the only one.
    group = InitProcessGroupKwargs(backend=None if gpus else "gloo", timeout=timeout)
    first = Accelerator(deepspeed_plugins=plugins, kwargs_handlers=[group], mixed_precision="no")
    return Accelerators(first, Accelerator())
