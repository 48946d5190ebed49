"""Players: network + optimizer + an Accelerator of its own.

A GAN is a game of two. One Accelerator a player gives each its own DeepSpeed engine; under fp16
each has its own gradient scaler. `Player` is a single process and DDP; `DeepSpeedPlayer` and
`FSDPPlayer`, in the files beside this one, divide what a rank holds. The step meets none of them.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ganscale.config import Adam, DiscriminatorPlayer, Generator, Train
from ganscale.engines.accelerators import DTYPES


class Player:
    """One network, how it is trained, and on what.

    `network` is what a loss is computed with, and `raw` the module inside: the same module, unless
    an engine wraps it. Under DDP each rank holds all of it, and the gradients are averaged.
    """

    def __init__(
        self,
        name: str,
        accelerator: Accelerator,
        network: nn.Module,
        options: Generator | DiscriminatorPlayer,
        train: Train,
    ):
        self.name = name
        self._own_scaler: torch.amp.GradScaler | None = None
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.clip_norm = options.clip_norm
        if train.sync_batch_norm:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.memory_format = torch.channels_last if train.channels_last else torch.contiguous_format
        self.raw = network.to(self.device).to(memory_format=self.memory_format)
        self._forward_float32 = self.raw.forward  # before it is wrapped in autocast
        self.raw.forward = in_lower_precision(self.raw.forward, self.device, train.precision)
        self._prepare(adam(self.raw, options.optimizer), train)
        self._base_rates = [group["lr"] for group in self.optimizer.param_groups]

    @property
    def replicated(self) -> bool:
        """Whether every rank holds all of the weights."""
        return True

    def _prepare(self, optimizer: torch.optim.Optimizer, train: Train) -> None:
        """Put the machinery around network and optimizer."""
        self.network: Any = self.raw
        self.optimizer: Any = optimizer
        if self.accelerator.num_processes > 1:
            # A seed's first weights may differ in the last bit between kinds of CPU.
            for tensor in self.raw.state_dict().values():
                torch.distributed.broadcast(tensor, 0)
        if train.precision == "fp16":
            self._own_scaler = torch.amp.GradScaler(self.device.type)

    def float32(self, images: Tensor, *labels: Tensor) -> Tensor:
        """The raw network in float32, whatever the precision of the rest: for penalties."""
        with torch.autocast(self.device.type, enabled=False):
            output: Tensor = self._forward_float32(images.float(), *labels)
            return output

    @contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """The raw network with parameters that take no gradient: to differentiate through."""
        trained = self._trained_parameters()
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield self.raw
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    def _trained_parameters(self) -> list[nn.Parameter]:
        """All parameters but those that the network itself keeps from being trained."""
        return [parameter for parameter in self.raw.parameters() if parameter.requires_grad]

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """Around the forward and backward of a micro-batch: gradients are reduced in the last."""
        yield
        if last:
            self._fill_gradients()
            if self.accelerator.num_processes > 1:
                gradients = [p.grad for p in self._trained_parameters() if p.grad is not None]
                average_over_ranks(gradients)

    def _fill_gradients(self) -> None:
        """Make a gradient that is missing zero, since another rank's rows may have used it."""
        for parameter in self._trained_parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient, scaled under fp16."""
        scaler = self._scaler()
        self.accelerator.backward(loss if scaler is None else scaler.scale(loss))

    def step(self, measure: bool = False) -> Tensor | None:
        """Update the weights and clear the gradients.

        Returns the L2 norm of the gradient before clipping where clipping or `measure` asks
        for it: measuring costs a pass over the gradients. Under fp16 a step whose scaled gradients
        overflow is left out, and its norm is not finite.
        """
        norm: Tensor | None = None
        scaler = self._scaler()
        if self.clip_norm is not None or measure:
            if scaler is not None:
                scaler.unscale_(self.optimizer)
            limit = self.clip_norm if self.clip_norm is not None else float("inf")
            norm = self.accelerator.clip_grad_norm_(self.raw.parameters(), limit)
        # Without Accelerate's wrapper, which looks for other libraries at every step.
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        self.optimizer.zero_grad()
        return norm

    @property
    def loss_scale(self) -> float | None:
        """What the loss is multiplied by under fp16; None otherwise. Waits for the device."""
        scaler = self._scaler()
        return None if scaler is None else float(scaler.get_scale())

    def scale_rate(self, factor: float) -> None:
        """Let the learning rate be `factor` times the one it was built with."""
        for group, base in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = base * factor

    @property
    def rate(self) -> float:
        """The learning rate of the last step, or of the one that follows."""
        return float(self.optimizer.param_groups[0]["lr"])

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Around anything that reads the raw network's weights; every rank enters it.

        Only an engine that divides the weights among ranks has something to do here.
        """
        yield

    def state(self) -> dict[str, Tensor]:
        """The network's weights, with BatchNorm's running statistics averaged over ranks.

        Every rank must call it: it communicates.
        """
        with self.whole():
            state = {name: value.clone() for name, value in self.raw.state_dict().items()}
        stacked = self._buffers_of_all_ranks()
        return state | {name: values.mean(0) for name, values in stacked.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take these weights."""
        self.raw.load_state_dict(state)

    def training_state(self) -> dict[str, Any]:
        """What, besides weights, a later step depends on; every rank must call it.

        The optimizer's moments, the gradient scale, and the running statistics of each rank: with
        them a run resumed at the same number of processes is the same to the last bit.
        """
        scaler = self._scaler()
        return {
            "optimizer": self._optimizer_state(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "buffers": {k: v.cpu() for k, v in self._buffers_of_all_ranks().items()},
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Take up where `training_state` left off, after the weights have been loaded."""
        self._load_optimizer_state(state["optimizer"])
        scaler = self._scaler()
        if scaler is not None and state["scaler"]:
            scaler.load_state_dict(state["scaler"])
        own = dict(self.raw.named_buffers())
        for name, values in state["buffers"].items():
            if len(values) == self.accelerator.num_processes:
                own[name].copy_(values[self.accelerator.process_index])

    def _scaler(self) -> Any:
        """The loss scaler under fp16; None otherwise."""
        return self._own_scaler

    def _optimizer_state(self) -> dict[str, Any]:
        """`state`: for the number of each parameter its step and moments."""
        return {"state": self.optimizer.state_dict()["state"]}

    def _load_optimizer_state(self, state: dict[str, Any]) -> None:
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["state"], "param_groups": groups})

    def _buffers_of_all_ranks(self) -> dict[str, Tensor]:
        """Floating-point buffers stacked over ranks: (world size, *shape)."""
        return {
            name: self.accelerator.gather(buffer[None])
            for name, buffer in self.raw.named_buffers()
            if buffer.is_floating_point()
        }


def average_over_ranks(gradients: list[Tensor]) -> None:
    """Average a network's gradients over ranks in place, all in one piece.

    PyTorch's DDP lays its buckets out anew after a process's first step: a resumed run would add
    its gradients up in another order than the uninterrupted one.
    """
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def adam(network: nn.Module, options: Adam) -> torch.optim.Adam:
    """Adam over all weights of a network."""
    return torch.optim.Adam(
        network.parameters(), lr=options.lr, betas=options.betas, eps=options.eps, fused=True
    )


def in_lower_precision(
    forward: Callable[..., Tensor], device: torch.device, precision: str
) -> Callable[..., Tensor]:
    """`forward` under autocast, its output in float32."""
    if precision == "fp32":
        return forward

    @functools.wraps(forward)
    def wrapped(*arguments: Any, **keywords: Any) -> Tensor:
        with torch.autocast(device.type, dtype=DTYPES[precision]):
            return forward(*arguments, **keywords).float()

    return wrapped
