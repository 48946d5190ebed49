"""DeepSpeed's configuration: how state is partitioned comes from the launcher, all else from the
experiment.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganscale.errors import GanscaleError

if TYPE_CHECKING:
    from ganscale.config import Experiment  # the command line reads the table of engines

STAGES = ("0", "1", "2", "3")
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


def read_deepspeed_file(path: Path) -> dict[str, Any]:
    """Read the DeepSpeed file that a launcher's file names.

    Raises `GanscaleError` if it cannot be used or sets what the experiment decides.
    """
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        stage = config["zero_optimization"]["stage"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GanscaleError(
            f"DeepSpeed file '{path}': cannot be used ({error!r}); it needs at least "
            '{"zero_optimization": {"stage": 2}}',
            every_rank=True,
        ) from None
    if stage not in range(4):
        raise GanscaleError(
            f"{path}: zero_optimization.stage={stage} must be 0, 1, 2 or 3", every_rank=True
        )
    for key, source in FROM_EXPERIMENT.items():
        if key in config:
            raise GanscaleError(
                f"{path}: sets {key}, which follows from {source}; remove it", every_rank=True
            )
    return config


def read_deepspeed_variables(environment: Mapping[str, str]) -> dict[str, Any]:
    """Read what `accelerate launch` sets for `--zero_stage` and `--offload_…_device`."""
    stage = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    if stage not in STAGES:
        raise GanscaleError(
            f"the launcher asks for zero_stage={stage}, which must be 0, 1, 2 or 3",
            every_rank=True,
        )
    zero: dict[str, Any] = {"stage": int(stage)}
    for part in ("optimizer", "param"):
        device = environment.get(f"ACCELERATE_DEEPSPEED_OFFLOAD_{part.upper()}_DEVICE", "none")
        if device == "cpu":
            zero[f"offload_{part}"] = {"device": "cpu", "pin_memory": True}
        elif device != "none":
            raise GanscaleError(
                f"the launcher asks for offload_{part}_device={device}; without a DeepSpeed file "
                "(deepspeed_config_file) it must be none or cpu",
                every_rank=True,
            )
    return {"zero_optimization": zero}


def complete_deepspeed_config(
    partitioning: Mapping[str, Any],
    experiment: "Experiment",
    clip_norm: float | None,
    world_size: int,
) -> dict[str, Any]:
    """Return the whole DeepSpeed configuration of one player, with every number explicit.

    If they were left out or `auto`, DeepSpeed would clip at 1. The accumulation is 1, since the
    update divides its loss and says itself which micro-batch is the last: DeepSpeed's own division
    happens in hooks that a loss through the plain module does not trigger.
    """
    train = experiment.train
    micro_batch = max(1, train.batch_size // train.accumulation // world_size)
    config = {
        **json.loads(json.dumps(partitioning)),
        "train_micro_batch_size_per_gpu": micro_batch,
        "train_batch_size": micro_batch * world_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": clip_norm or 0.0,
        "zero_force_ds_cpu_optimizer": False,
    }
    if train.precision != "fp32":
        # Autocast over float32 weights, as under DDP, and gradients reduced in float32. DeepSpeed's
        # own fp16 and bf16 would keep the weights in half precision, penalties and all.
        dtype = {"bf16": "bfloat16", "fp16": "float16"}[train.precision]
        config["torch_autocast"] = {
            "enabled": True,
            "dtype": dtype,
            "lower_precision_safe_modules": [],
        }
    return config
