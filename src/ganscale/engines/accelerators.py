"""One Accelerator a player, for the engine that the launcher chose.

`accelerate launch` says by its own file whether the processes form plain DDP or DeepSpeed; the
experiment says everything that decides what is computed. Neither reaches the step.
"""

import json
import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ganscale.config import Experiment
from ganscale.engines.rules import refuse_unfit_engine
from ganscale.errors import GanscaleError

log = logging.getLogger("ganscale")

USE_FSDP = "ACCELERATE_USE_FSDP"  # set by the launcher
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
FROM_EXPERIMENT = {
    "train_batch_size": "train.batch_size",
    "train_micro_batch_size_per_gpu": "train.batch_size",
    "gradient_accumulation_steps": "train.accumulation",
    "gradient_clipping": "generator.clip_norm and discriminator.clip_norm",
    "fp16": "train.precision",
    "bf16": "train.precision",
    "torch_autocast": "train.precision",
    "optimizer": "generator.optimizer and discriminator.optimizer",
    "scheduler": "the experiment",
}
"""Keys that a DeepSpeed file may not set, and what sets them."""


class Accelerators(NamedTuple):
    """The two players' Accelerators, and what divides the players' state among ranks, if any."""

    generator: Accelerator
    discriminator: Accelerator
    zero_stage: int | None = None
    fsdp: bool = False

    @property
    def engine(self) -> str:
        """How the processes work together, in words."""
        if self.zero_stage is not None:
            return f"DeepSpeed ZeRO-{self.zero_stage}"
        if self.fsdp:
            return "FSDP2"
        return "DDP" if self.generator.num_processes > 1 else "single process"


def make_accelerators(experiment: Experiment) -> Accelerators:
    """Both Accelerators; a machine without a GPU trains on its CPU."""
    refuse_unfit_engine(experiment, gpus=torch.cuda.is_available())
    _warn_of_other_precision(experiment)
    _join_restarted_group(_timeout(experiment))
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        return _with_deepspeed(experiment)
    fsdp = _wants_fsdp(experiment)

    def accelerator() -> Accelerator:
        # Precision is the experiment's, whatever the launcher's file says: the run follows from it.
        return Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="no",  # a player's own: see players.py
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=_timeout(experiment)),
            ],
        )

    if not fsdp:
        return Accelerators(accelerator(), accelerator())
    # To Accelerate the processes are plain ones: see fsdp_player.py.
    os.environ[USE_FSDP] = "false"
    accelerators = Accelerators(accelerator(), accelerator(), fsdp=True)
    os.environ[USE_FSDP] = "true"
    return accelerators


def _wants_fsdp(experiment: Experiment) -> bool:
    """Whether the launcher asks for FSDP."""
    asked = os.environ.get(USE_FSDP, "false").lower() == "true"
    if not asked or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return False
    if os.environ.get("FSDP_OFFLOAD_PARAMS", "false").lower() == "true":
        raise GanscaleError(
            "the launcher's file says fsdp_offload_params: true; only moments can be kept in host "
            "memory, and DeepSpeed does that (launch/accelerate/deepspeed_zero2_offload.yaml)",
            every_rank=True,
        )
    refuse_unfit_engine(experiment, gpus=torch.cuda.is_available(), fsdp=True)
    return True


def _warn_of_other_precision(experiment: Experiment) -> None:
    """Say that the launcher's --mixed_precision is not heeded, where it asks for another one."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")  # "no" is also its default
    precision = experiment.train.precision
    if asked not in ("no", precision) and os.environ.get("RANK", "0") == "0":
        log.warning(
            "accelerate launch asks for mixed_precision=%s and the experiment for "
            "train.precision=%s: the experiment decides, so change it there",
            asked,
            precision,
        )


def _join_restarted_group(timeout: timedelta) -> None:
    """Form the process group under keys of this attempt's own, where torchrun has restarted us.

    Its store outlives a restart, and the dead ranks' addresses in it would be taken for ours.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or torch.distributed.is_initialized():
        return
    store, rank, world_size = next(rendezvous("env://", timeout=timeout))
    torch.distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        store=PrefixStore(f"attempt-{attempt}", store),
        rank=rank,
        world_size=world_size,
        timeout=timeout,
    )


def _timeout(experiment: Experiment) -> timedelta:
    return timedelta(seconds=experiment.train.timeout)


# -- DeepSpeed -------------------------------------------------------------------------------


def _with_deepspeed(experiment: Experiment) -> Accelerators:
    path = Path(os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", ""))
    base = _read(path)
    stage = int(base["zero_optimization"]["stage"])
    refuse_unfit_engine(experiment, gpus=torch.cuda.is_available(), zero_stage=stage)
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when DeepSpeed is imported
    try:
        import deepspeed
        import transformers  # noqa: F401 - Accelerate's choice between plugins needs it
    except ImportError as error:
        raise GanscaleError(
            f"the launcher asks for DeepSpeed, and {error.name} is not installed: "
            "in the clone, pip install -e '.[deepspeed]'",
            every_rank=True,
        ) from None
    from accelerate.utils import DeepSpeedPlugin

    deepspeed.utils.logger.setLevel(logging.WARNING)
    # Accelerate would otherwise take the file itself for both players.
    os.environ.pop("ACCELERATE_DEEPSPEED_CONFIG_FILE", None)
    clipping = {
        "generator": experiment.generator.clip_norm,
        "discriminator": experiment.discriminator.clip_norm,
    }
    plugins = {
        player: DeepSpeedPlugin(hf_ds_config=_config(base, experiment, clip_norm))
        for player, clip_norm in clipping.items()
    }
    os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"] = str(path)
    # Without the backend's name Accelerate would take each rank for the only one.
    backend = None if torch.cuda.is_available() else "gloo"
    group = InitProcessGroupKwargs(backend=backend, timeout=_timeout(experiment))
    first = Accelerator(deepspeed_plugins=plugins, kwargs_handlers=[group], mixed_precision="no")
    return Accelerators(first, Accelerator(), stage)


def _read(path: Path) -> dict[str, Any]:
    """The DeepSpeed file that the launcher names."""
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        stage = config["zero_optimization"]["stage"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GanscaleError(
            f"DeepSpeed file '{path}': cannot be used ({error!r}); the launcher's file names it as "
            "deepspeed_config.deepspeed_config_file, e.g. configs/deepspeed/zero2.json",
            every_rank=True,
        ) from None
    if stage not in range(4):
        raise GanscaleError(
            f"{path}: zero_optimization.stage={stage}; it is 0, 1, 2 or 3", every_rank=True
        )
    for key, source in FROM_EXPERIMENT.items():
        if key in config:
            raise GanscaleError(
                f"{path}: sets {key}, which follows from {source}; remove it", every_rank=True
            )
    return config


def _config(
    base: Mapping[str, Any], experiment: Experiment, clip_norm: float | None
) -> dict[str, Any]:
    """The whole DeepSpeed configuration of one player, every number explicit.

    Left out or `auto`, DeepSpeed clips at 1. The accumulation is 1, since the step divides its
    loss and says itself which micro-batch is the last: DeepSpeed's own division is done in hooks
    that a loss through the raw module does not meet.
    """
    train = experiment.train
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    micro_batch = max(1, train.batch_size // train.accumulation // world_size)
    config = {
        **json.loads(json.dumps(base)),
        "train_micro_batch_size_per_gpu": micro_batch,
        "train_batch_size": micro_batch * world_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": clip_norm or 0.0,
        "zero_force_ds_cpu_optimizer": False,
    }
    if train.precision != "fp32":
        # Autocast over float32 weights, as under DDP, and gradients reduced in float32. DeepSpeed's
        # own fp16 and bf16 would keep the weights in half precision, penalties and all.
        config["torch_autocast"] = {
            "enabled": True,
            "dtype": str(DTYPES[train.precision]).removeprefix("torch."),
            "lower_precision_safe_modules": [],
        }
    return config
