"""Settings from the launcher, read once from the environment, and the engines to choose from.

torchrun, `accelerate launch` and `slurm/rank.sh` set environment variables that identify this
process and tell how the processes of the run work together.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ganscale.engines.deepspeed_config import read_deepspeed_file, read_deepspeed_variables
from ganscale.errors import GanscaleError

ENGINE = "GANSCALE_ENGINE"
PLACE = {  # minimum of each; some launchers set -1 for "none"
    "RANK": -1,
    "LOCAL_RANK": -1,
    "GROUP_RANK": -1,
    "WORLD_SIZE": 1,
    "LOCAL_WORLD_SIZE": 1,
}


@dataclass(frozen=True)
class Engine:
    """How the processes of a run share a network's weights, gradients and optimizer state."""

    name: str
    title: str
    """Name of the engine for people."""
    player: str
    """Class of the players with this engine, as `module:class`."""
    deepspeed: Mapping[str, Any] = field(default_factory=dict)
    """Contents of a DeepSpeed configuration file; empty without DeepSpeed."""

    @property
    def zero_stage(self) -> int | None:
        """DeepSpeed's ZeRO stage, 0 to 3; None without DeepSpeed."""
        return int(self.deepspeed["zero_optimization"]["stage"]) if self.deepspeed else None

    def describe(self, world_size: int) -> str:
        """Return the engine's title; without DeepSpeed, one process alone needs no engine."""
        return self.title if world_size > 1 or self.deepspeed else "single process"


def _deepspeed(name: str, config: Mapping[str, Any]) -> Engine:
    title = f"DeepSpeed ZeRO-{config['zero_optimization']['stage']}"
    return Engine(name, title, "ganscale.engines.deepspeed_player:DeepSpeedPlayer", config)


def _zero(name: str, stage: int, **more: Any) -> Engine:
    return _deepspeed(name, {"zero_optimization": {"stage": stage, **more}})


DDP = Engine("ddp", "DDP", "ganscale.engines.player:Player")
FSDP2 = Engine("fsdp2", "FSDP2", "ganscale.engines.fsdp2_player:FSDP2Player")
ENGINES = {
    engine.name: engine
    for engine in (
        DDP,
        FSDP2,
        _zero("zero0", 0),
        _zero("zero1", 1),
        _zero("zero2", 2),
        _zero("zero2_offload", 2, offload_optimizer={"device": "cpu", "pin_memory": True}),
        _zero("zero3", 3),
    )
}
"""The engines that `ganscale submit --engine` and GANSCALE_ENGINE accept, by name."""


@dataclass(frozen=True)
class Launcher:
    """The place of this process in the run, and how the processes work together."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    node: int = 0
    """Number of the node, from 0."""
    engine: Engine = DDP
    mixed_precision: str = "no"
    """The precision that `accelerate launch` requests; `train.precision` takes priority."""
    attempt: str = "0"
    """Number of times that torchrun has restarted the ranks."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Launcher":
        """Read the launcher's variables; without a launcher, return a single process.

        Raises `GanscaleError`, with the name of the variable, for an invalid value.
        """
        place = {name: _read_number(environment, name) for name in PLACE}
        rank, local_world_size = max(0, place["RANK"]), place["LOCAL_WORLD_SIZE"]
        node = place["GROUP_RANK"]
        if node < 0:  # launchers that do not set it number the ranks node by node
            node = rank // local_world_size
        return cls(
            rank,
            place["WORLD_SIZE"],
            max(0, place["LOCAL_RANK"]),
            local_world_size,
            node,
            _read_engine(environment, place["WORLD_SIZE"]),
            environment.get("ACCELERATE_MIXED_PRECISION", "no"),  # "no" is also its default
            environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
        )


def _read_number(environment: Mapping[str, str], name: str) -> int:
    least = PLACE[name]
    value = environment.get(name, str(least))
    if not re.fullmatch("-?[0-9]{1,9}", value) or int(value) < least:
        wanted = "a number" if least < 0 else f"a number of at least {least}"
        raise GanscaleError(
            f"{name}={value} in the environment is not {wanted}: a launcher sets it "
            f"(accelerate launch, torchrun, srun); without one, unset {name}"
        )
    return int(value)


def _read_engine(environment: Mapping[str, str], world_size: int) -> Engine:
    """Return the engine that GANSCALE_ENGINE names, else the one `accelerate launch` requests."""

    def says_yes(name: str) -> bool:
        return environment.get(name, "false").lower() == "true"

    name = environment.get(ENGINE)
    if name:
        engine = find_engine(name)
    elif says_yes("ACCELERATE_USE_DEEPSPEED"):
        file = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
        named = file not in ("", "none")
        config = read_deepspeed_file(Path(file)) if named else read_deepspeed_variables(environment)
        engine = _deepspeed("deepspeed", config)
    elif says_yes("ACCELERATE_USE_FSDP"):
        engine = FSDP2
    else:
        engine = DDP
    if engine is FSDP2 and world_size == 1:
        return DDP
    if engine is FSDP2 and says_yes("FSDP_OFFLOAD_PARAMS"):
        raise GanscaleError(
            "the launcher's file sets fsdp_offload_params: true; only Adam's moments can be kept "
            f"in host memory, and DeepSpeed does that ({ENGINE}=zero2_offload)",
            every_rank=True,
        )
    if engine.deepspeed and "RANK" not in environment:
        raise GanscaleError(
            "DeepSpeed needs a launcher, also for a single process: accelerate launch "
            "--config_file launch/accelerate/deepspeed.yaml --num_processes 1 …",
            every_rank=True,
        )
    return engine


def find_engine(name: str) -> Engine:
    """Return the engine with this name; raise `GanscaleError` if there is none."""
    if name not in ENGINES:
        raise GanscaleError(
            f"{ENGINE}={name}: unknown engine; use one of {', '.join(ENGINES)}", every_rank=True
        )
    return ENGINES[name]
