"""What an engine or a device cannot train: known before any process has started."""

from ganscale.config import Experiment
from ganscale.errors import GanscaleError


def refuse_unfit_engine(
    experiment: Experiment, *, gpus: bool, fsdp: bool = False, zero_stage: int | None = None
) -> None:
    """Raise `GanscaleError` where the experiment cannot be trained that way.

    gpus: whether the processes have one each. zero_stage: DeepSpeed's, None without DeepSpeed.
    """
    train = experiment.train
    if train.sync_batch_norm and not gpus:
        raise GanscaleError(
            "train.sync_batch_norm=true needs GPUs; set it to false", every_rank=True
        )
    if train.precision == "fp16" and fsdp:
        raise GanscaleError(
            "train.precision=fp16 does not go with FSDP; use bf16, DDP or DeepSpeed",
            every_rank=True,
        )
    if train.precision == "fp16" and zero_stage is not None and not gpus:
        raise GanscaleError(
            "train.precision=fp16: DeepSpeed scales losses on GPUs only; use bf16, or DDP",
            every_rank=True,
        )
    if zero_stage == 3 and experiment.objective.penalties:
        kinds = ", ".join(penalty.kind for penalty in experiment.objective.penalties)
        raise GanscaleError(
            "ZeRO stage 3 cannot differentiate twice through partitioned weights, which "
            f"objective.penalties ({kinds}) needs; use stage 2, FSDP2 or DDP",
            every_rank=True,
        )
