"""What an engine or a device cannot train: known before any process has started."""

from ganscale.config import Experiment
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
