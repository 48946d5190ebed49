"""Players: network + optimizer + an Accelerator of its own.

A GAN is a game of two. One Accelerator a player gives each its own gradient scaler and, later,
its own DeepSpeed engine; which machinery is behind it is decided here and nowhere else.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from ganscale.config import Adam, Train
from ganscale.errors import GanscaleError

ACCELERATE_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def make_accelerator(train: Train) -> Accelerator:
    """One player's Accelerator; a machine without a GPU trains on its processor."""
    if train.precision == "fp16" and not torch.cuda.is_available():
        raise GanscaleError(
            "train.precision=fp16 needs a GPU; use bf16 or fp32 on a processor", every_rank=True
        )
    if train.sync_batch_norm and not torch.cuda.is_available():
        raise GanscaleError(
            "train.sync_batch_norm=true needs GPUs; set it to false", every_rank=True
        )
    # Precision is the experiment's, whatever the launcher's file says: the run follows from it.
    return Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=ACCELERATE_PRECISION[train.precision],
        kwargs_handlers=[
            # Two forwards before one backward: broadcasting buffers would write into BatchNorm's
            # statistics between them.
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
        ],
    )


class Player:
    """One network, how it is trained, and on what.

    `network` is what a loss is computed with (a DDP wrapper where there is one); `raw` is the
    module inside, for forwards that must reduce no gradient.
    """

    def __init__(
        self,
        network: nn.Module,
        adam: Adam,
        train: Train,
        clip_norm: float | None = None,
        lazy_interval: int = 1,
    ):
        self.accelerator = make_accelerator(train)
        self.device: torch.device = self.accelerator.device
        self.clip_norm = clip_norm
        if train.sync_batch_norm:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.memory_format = torch.channels_last if train.channels_last else torch.contiguous_format
        self.raw = network.to(self.device).to(memory_format=self.memory_format)
        self._forward_float32 = self.raw.forward  # before Accelerate wraps it in autocast
        optimizer = _adam(self.raw, adam, lazy_interval)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            self.network, self.optimizer = self.accelerator.prepare(self.raw, optimizer)

    def float32(self, images: Tensor) -> Tensor:
        """The raw network in float32, whatever the precision of the rest: for penalties."""
        with torch.autocast(self.device.type, enabled=False):
            output: Tensor = self._forward_float32(images.float())
            return output

    @contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """The raw network with parameters that take no gradient: to differentiate through."""
        self.raw.requires_grad_(False)
        try:
            yield self.raw
        finally:
            self.raw.requires_grad_(True)

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """Around the forward and backward of a micro-batch: gradients are reduced in the last."""
        if last:
            yield
        else:
            with self.accelerator.no_sync(self.network):
                yield

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient, scaled under fp16."""
        self.accelerator.backward(loss)

    def step(self, measure: bool = False) -> Tensor | None:
        """Update the weights and clear the gradients.

        Returns the L2 norm of the gradient before clipping where clipping or `measure` asks
        for it: measuring costs a pass over the gradients.
        """
        norm: Tensor | None = None
        if self.clip_norm is not None or measure:
            limit = self.clip_norm if self.clip_norm is not None else float("inf")
            norm = self.accelerator.clip_grad_norm_(self.raw.parameters(), limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def averaged_state(self) -> dict[str, Tensor]:
        """The network's state with BatchNorm's running statistics averaged over ranks.

        Every rank must call it: it communicates.
        """
        state = dict(self.raw.state_dict())
        stacked = self._buffers_of_all_ranks()
        return state | {name: values.mean(0) for name, values in stacked.items()}

    def training_state(self) -> dict[str, Any]:
        """What, besides weights, a later step depends on; every rank must call it.

        The optimizer's moments, the gradient scale, and the running statistics of each rank: with
        them a run resumed at the same number of processes is the same to the last bit.
        """
        scaler = self.accelerator.scaler
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "buffers": {k: v.cpu() for k, v in self._buffers_of_all_ranks().items()},
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Take up where `training_state` left off, after the weights have been loaded."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        own = dict(self.raw.named_buffers())
        for name, values in state["buffers"].items():
            if len(values) == self.accelerator.num_processes:
                own[name].copy_(values[self.accelerator.process_index])

    def _buffers_of_all_ranks(self) -> dict[str, Tensor]:
        """Floating-point buffers stacked over ranks: (world size, *shape)."""
        return {
            name: self.accelerator.gather(buffer[None])
            for name, buffer in self.raw.named_buffers()
            if buffer.is_floating_point()
        }


def _adam(network: nn.Module, adam: Adam, lazy_interval: int) -> torch.optim.Adam:
    """Adam; a penalty every k-th step takes lr and betas of k/(k+1) (StyleGAN2, appendix B)."""
    ratio = lazy_interval / (lazy_interval + 1) if lazy_interval > 1 else 1.0
    betas = (adam.betas[0] ** ratio, adam.betas[1] ** ratio)
    return torch.optim.Adam(
        network.parameters(), lr=adam.lr * ratio, betas=betas, eps=adam.eps, fused=True
    )
