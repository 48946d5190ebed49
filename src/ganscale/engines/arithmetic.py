"""What the bits of a run depend on besides its experiment: device, threads, PyTorch's choices."""

import logging
import os

import torch
from pydantic import BaseModel, ConfigDict

from ganscale.config import Train
from ganscale.devices import name_of

log = logging.getLogger("ganscale")


class Arithmetic(BaseModel):
    """The machinery that computed a part of a run; where it is the same, so is every bit."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    device: str
    """`cpu`, or the name of the GPU."""
    threads: int
    """CPU threads of each process."""
    world_size: int
    pytorch: str
    """The version of PyTorch."""
    engine: str | None = None
    """In words, such as `FSDP2`. Older checkpoints lack this field and those below."""
    accumulation: int | None = None
    """Micro-batches per update."""
    deterministic: bool | None = None
    """True if PyTorch was limited to deterministic algorithms."""
    compiled: bool | None = None
    """True if torch.compile made the losses' code."""

    @classmethod
    def of(cls, device: torch.device, world_size: int, engine: str, train: Train) -> "Arithmetic":
        """Return what computes in this process."""
        return cls(
            device=name_of(device),
            threads=torch.get_num_threads(),
            world_size=world_size,
            pytorch=torch.__version__,
            engine=engine,
            accumulation=train.accumulation,
            deterministic=train.deterministic,
            compiled=train.compile,
        )

    def warn_of_change(self, before: "Arithmetic | None") -> None:
        """Log what has changed since a checkpoint was written."""
        if before is None or before == self:
            return
        then, now = before.model_dump(), self.model_dump()
        changed = [
            f"{name.replace('_', ' ')} {then[name]} → {now[name]}"
            for name in now
            if then[name] not in (now[name], None)
        ]
        if not changed:
            return
        log.info(
            "resuming on other machinery (%s): from here on the run differs from an uninterrupted "
            "one by the order of floating-point sums",
            ", ".join(changed),
        )


def set_up_arithmetic(train: Train) -> None:
    """Set PyTorch's choices as the experiment says; call it before the first use of a GPU."""
    torch.backends.cuda.matmul.allow_tf32 = train.tf32
    torch.backends.cudnn.allow_tf32 = train.tf32
    if train.deterministic != torch.are_deterministic_algorithms_enabled():
        # Only if it changes something: PyTorch imports its compiler to set the compiler's share.
        torch.use_deterministic_algorithms(train.deterministic)
    # Shapes do not change during a run, so that cuDNN's search for its fastest algorithms pays.
    torch.backends.cudnn.benchmark = not train.deterministic
    if train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # ganscale reads no memory before it is written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
