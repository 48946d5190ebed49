"""What an engine or a device cannot train, known before any network is built."""

import torch

from ganscale.config import Experiment, Train
from ganscale.devices import has_bfloat16, has_float64
from ganscale.engines.launcher import Engine
from ganscale.errors import GanscaleError


def refuse_unfit_engine(experiment: Experiment, engine: Engine, *, gpus: bool) -> None:
    """Raise `GanscaleError` if the experiment cannot be trained on that engine.

    gpus: whether each process has one.
    """
    train = experiment.train
    if train.sync_batch_norm and not gpus:
        raise GanscaleError(
            "train.sync_batch_norm=true needs GPUs; set it to false", every_rank=True
        )
    if train.compile and (engine.name == "fsdp2" or engine.zero_stage == 3):
        raise GanscaleError(
            "train.compile=true: a compiled loss cannot gather the weights that "
            f"{engine.title} partitions; set it to false, or use DDP or ZeRO 0 to 2",
            every_rank=True,
        )
    if train.cuda_graph and not gpus:
        raise GanscaleError("train.cuda_graph=true needs GPUs; set it to false", every_rank=True)
    if train.cuda_graph and (engine.name == "fsdp2" or engine.deepspeed):
        raise GanscaleError(
            f"train.cuda_graph=true: what {engine.title} does in a backward pass cannot be "
            "captured; set it to false, or use DDP",
            every_rank=True,
        )
    if train.precision == "fp16" and engine.name == "fsdp2":
        raise GanscaleError(
            "train.precision=fp16 does not go with FSDP; use bf16, DDP or DeepSpeed",
            every_rank=True,
        )
    if train.precision == "fp16" and engine.deepspeed and not gpus:
        raise GanscaleError(
            "train.precision=fp16: DeepSpeed scales losses on GPUs only; use bf16, or DDP",
            every_rank=True,
        )
    if engine.zero_stage == 3 and experiment.objective.penalties:
        kinds = ", ".join(penalty.kind for penalty in experiment.objective.penalties)
        raise GanscaleError(
            "ZeRO stage 3 cannot differentiate twice through partitioned weights, which "
            f"objective.penalties ({kinds}) needs; use stage 2, FSDP2 or DDP",
            every_rank=True,
        )


def refuse_unfit_device(train: Train, device: torch.device) -> None:
    """Raise `GanscaleError` if such a GPU cannot do what this training needs."""
    kind = device.type
    if train.cuda_graph and kind not in ("cuda", "cpu"):
        raise GanscaleError(
            f"train.cuda_graph=true needs CUDA, and this GPU is {kind}; set it to false",
            every_rank=True,
        )
    if train.sync_batch_norm and kind == "mps":
        raise GanscaleError(
            "train.sync_batch_norm=true: PyTorch has no synchronised BatchNorm on mps, where a "
            "single process trains anyway; set it to false",
            every_rank=True,
        )
    # PyTorch's gradient scaler divides in float64, except on MPS.
    if train.precision == "fp16" and kind != "mps" and not has_float64(device):
        raise GanscaleError(
            f"train.precision=fp16 needs float64, which this {kind} has not; use bf16",
            every_rank=True,
        )
    if train.precision == "bf16" and kind == "mps" and not has_bfloat16(device):
        raise GanscaleError("train.precision=bf16 needs macOS 14 on mps; use fp16 or fp32")
