"""A player: one network with its optimizer and an Accelerator of its own.

A GAN is a game of two. With one Accelerator for each player, each has its own DeepSpeed engine, and
under fp16 its own gradient scaler. `Player` covers a single process and DDP; `FSDP2Player` and
`DeepSpeedPlayer`, in the files beside this one, partition what a rank holds. The update sees only
what is public here.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ganscale.config import DiscriminatorPlayer, Generator, Train
from ganscale.engines import distributed
from ganscale.engines.adam import EagerAdam, make_adam
from ganscale.profiling.marks import REDUCTIONS, mark

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Player:
    """One network and how it is trained.

    Call the player to compute a loss that is to train it, and `module`, the plain network inside,
    for anything else. Under DDP each rank holds all of it, and the gradients are averaged.
    """

    _adam: type[torch.optim.Adam] = EagerAdam

    def __init__(
        self,
        name: str,
        accelerator: Accelerator,
        module: nn.Module,
        options: Generator | DiscriminatorPlayer,
        train: Train,
    ):
        self.name = name
        self._own_scaler: torch.amp.GradScaler | None = None
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.clip_norm = options.clip_norm
        self._keeps_gradients = train.cuda_graph  # a captured backward pass adds to them in place
        if train.sync_batch_norm:
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        self.memory_format = torch.channels_last if train.channels_last else torch.contiguous_format
        self.module = module.to(self.device).to(memory_format=self.memory_format)
        self._plain_forward = self.module.forward  # before it is wrapped in autocast
        self.module.forward = in_lower_precision(self.module.forward, self.device, train.precision)
        self._prepare(make_adam(self.module, options.optimizer, self._adam), train)
        self._trained = self._find_trained_parameters()
        if self._keeps_gradients:
            self._fill_gradients()

    @property
    def replicated(self) -> bool:
        """True if every rank holds all of the weights."""
        return True

    def _prepare(self, optimizer: torch.optim.Optimizer, train: Train) -> None:
        """Put the engine around module and optimizer."""
        self.optimizer: Any = optimizer
        # The first weights of a seed may differ in the last bit between kinds of CPU.
        distributed.broadcast_from_rank_0(list(self.module.state_dict().values()))
        if train.precision == "fp16":
            self._own_scaler = torch.amp.GradScaler(self.device.type)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return the network's output for a loss that is to train it."""
        output: Tensor = self.module(*inputs)
        return output

    def forward_float32(self, images: Tensor, *labels: Tensor) -> Tensor:
        """Return the network's output computed in float32, whatever `train.precision` says."""
        with torch.autocast(self.device.type, enabled=False):
            output: Tensor = self._plain_forward(images.float(), *labels)
            return output

    @contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """Give the plain network without gradients for its parameters: to differentiate through."""
        trained = self._trained_parameters()
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield self.module
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    def _trained_parameters(self) -> list[nn.Parameter]:
        """Return all parameters but those that the network itself has frozen."""
        return self._trained

    def _find_trained_parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """Enclose a micro-batch's forward and backward; after the last, average the gradients."""
        yield
        if last:
            self._fill_gradients()
            if distributed.world_size() > 1:
                gradients = [p.grad for p in self._trained_parameters() if p.grad is not None]
                with mark(REDUCTIONS):
                    distributed.average_gradients(gradients)

    def _fill_gradients(self) -> None:
        """Set missing gradients to zero: another rank's rows may have used those parameters."""
        for parameter in self._trained_parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of the loss, scaled under fp16."""
        scaler = self._scaler()
        self.accelerator.backward(loss if scaler is None else scaler.scale(loss))

    def step(self, measure: bool = False) -> Tensor | None:
        """Update the weights and clear the gradients.

        Returns the L2 norm of the gradient before clipping if clipping needs it or `measure` asks
        for it: measuring costs a pass over the gradients. Under fp16 a step whose scaled gradients
        overflow is skipped, and its norm is not finite.
        """
        norm: Tensor | None = None
        scaler = self._scaler()
        if self.clip_norm is not None or measure:
            if scaler is not None:
                scaler.unscale_(self.optimizer)
            limit = self.clip_norm if self.clip_norm is not None else float("inf")
            # Accelerate's own function imports what partitions tensors, and with it SymPy.
            norm = nn.utils.clip_grad_norm_(self.module.parameters(), limit)
        # Without Accelerate's wrapper, which looks for other libraries at every step.
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        self.optimizer.zero_grad(set_to_none=not self._keeps_gradients)
        return norm

    @property
    def loss_scale(self) -> float | None:
        """What the loss is multiplied by under fp16, else None; reading it waits for the device."""
        scaler = self._scaler()
        return None if scaler is None else float(scaler.get_scale())

    def set_rates(self, learning_rate: float, betas: tuple[float, float]) -> None:
        """Set what Adam multiplies its step by, and how slowly its two moments forget."""
        for group in self.optimizer.param_groups:
            group["lr"], group["betas"] = learning_rate, betas

    @property
    def rate(self) -> float:
        """The learning rate in use."""
        return float(self.optimizer.param_groups[0]["lr"])

    @contextmanager
    def gathered_weights(self) -> Iterator[None]:
        """Enclose what reads the weights of `module`: inside, every rank has all of them.

        Every rank enters it. Only engines that partition the weights have something to do here.
        """
        yield

    def weights(self) -> dict[str, Tensor]:
        """Return the network's weights, BatchNorm's running statistics averaged over ranks.

        Every rank must call it.
        """
        with self.gathered_weights():
            state = {name: value.clone() for name, value in self.module.state_dict().items()}
        stacked = self._buffers_of_all_ranks()
        return state | {name: values.mean(0) for name, values in stacked.items()}

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Load the weights that `weights` returned."""
        self.module.load_state_dict(state)

    def training_state(self) -> dict[str, Any]:
        """Return what, besides the weights, a later step depends on; every rank must call it.

        These are the optimizer's moments, the gradient scale, and each rank's running statistics:
        with them a run that resumes with the same number of processes does so bit for bit.
        """
        scaler = self._scaler()
        return {
            "optimizer": self._optimizer_state(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "buffers": {k: v.cpu() for k, v in self._buffers_of_all_ranks().items()},
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Load what `training_state` returned, after the weights have been loaded."""
        self._load_optimizer_state(state["optimizer"])
        scaler = self._scaler()
        if scaler is not None and state["scaler"]:
            scaler.load_state_dict(state["scaler"])
        own = dict(self.module.named_buffers())
        for name, values in state["buffers"].items():
            if len(values) == distributed.world_size():
                own[name].copy_(values[distributed.rank()])

    def _scaler(self) -> Any:
        """Return the loss scaler under fp16; None otherwise."""
        return self._own_scaler

    def _optimizer_state(self) -> dict[str, Any]:
        """Return `state`: for each parameter's number its step and moments."""
        return {"state": self.optimizer.state_dict()["state"]}

    def _load_optimizer_state(self, state: dict[str, Any]) -> None:
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
        # Fused Adam goes through a weight and its moments in the order of their memory, which has
        # to be the same: a checkpoint holds them row by row, and the weight may be channels-last.
        for parameter, own in self.optimizer.state.items():
            for key, value in own.items():
                if value.shape == parameter.shape and value.stride() != parameter.stride():
                    own[key] = torch.empty_like(parameter).copy_(value)

    def _buffers_of_all_ranks(self) -> dict[str, Tensor]:
        """Return the floating-point buffers stacked over ranks: (world size, *shape)."""
        return {
            name: distributed.stack_over_ranks(buffer)
            for name, buffer in self.module.named_buffers()
            if buffer.is_floating_point()
        }


def in_lower_precision(
    forward: Callable[..., Tensor], device: torch.device, precision: str
) -> Callable[..., Tensor]:
    """Wrap `forward` in autocast; its output is float32."""
    if precision == "fp32":
        return forward

    @functools.wraps(forward)
    def wrapped(*arguments: Any, **keywords: Any) -> Tensor:
        with torch.autocast(device.type, dtype=DTYPES[precision]):
            return forward(*arguments, **keywords).float()

    return wrapped
