"""A player on a DeepSpeed engine, ZeRO stage 0 to 3.

Its checkpoints are those of every other player: weights and optimizer states are gathered from all
ranks, parameter by parameter, and partitioned again when they are loaded. So a run may resume with
another stage, another number of processes, or without DeepSpeed.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from ganscale.config import Train
from ganscale.engines import distributed
from ganscale.engines.player import Player

MOMENTS = ("exp_avg", "exp_avg_sq")


class DeepSpeedPlayer(Player):
    """DeepSpeed's engine does the backward passes and updates, and stage 3's training forward."""

    _adam = torch.optim.Adam  # ZeRO refuses a subclass

    def _prepare(self, optimizer: torch.optim.Optimizer, train: Train) -> None:
        # DeepSpeed lays weights out in flat buffers; channels_last stays the images' memory order.
        self.module.to(memory_format=torch.contiguous_format)
        self.accelerator.state.select_deepspeed_plugin(self.name)
        self._engine, _ = self.accelerator.prepare(self.module, optimizer)
        self.optimizer = self._engine.optimizer
        self.stage: int = self._engine.zero_optimization_stage()
        if self.stage < 3:
            self._remove_forward_hooks()
        self._accumulation = ExitStack()
        self._accumulating = False

    def _remove_forward_hooks(self) -> None:
        """Take back what DeepSpeed does around each forward pass of the module.

        It measures the throughput, for which the host waits for the device, and counts calls, which
        a compiled loss would have to be compiled anew for. Only stage 3 computes something there.
        """
        self._engine.module_forward_pre_hook.remove()
        self._engine.module_forward_post_hook.remove()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return the network's output for a loss that is to train it."""
        # In stage 3 the engine gathers the weights. In the others its forward adds nothing, and
        # gradient penalties cannot differentiate through it.
        network = self._engine if self.stage == 3 else self.module
        output: Tensor = network(*inputs)
        return output

    @property
    def replicated(self) -> bool:
        """True if every rank holds all of the weights: not under stage 3."""
        return self.stage < 3

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """Enclose a micro-batch's forward and backward; the last one reduces the gradients.

        By themselves, stages 2 and 3 would reduce in each.
        """
        if self.stage > 0 and not last and not self._accumulating:
            self._accumulation.enter_context(self._engine.coalesce_grad_reduction())
            self._accumulating = True
        self._engine.set_gradient_accumulation_boundary(last)
        yield
        if last:
            self._accumulation.close()
            self._accumulating = False

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of the loss, scaled under fp16."""
        self._engine.backward(loss)

    def step(self, measure: bool = False) -> Tensor | None:
        """Update the weights and clear the gradients; returns the gradient's norm if measured."""
        norm = self._gradient_norm() if measure and self.stage == 0 else None
        self._engine.step()
        if measure and self.stage > 0:
            norm = torch.as_tensor(self._engine.get_global_grad_norm(), device=self.device)
        return norm

    def _gradient_norm(self) -> Tensor:
        """Return the L2 norm of the reduced gradients; DeepSpeed keeps it from stage 1 on only."""
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        scaler = self._scaler()
        return torch.nn.utils.get_total_norm(gradients) / (scaler.get_scale() if scaler else 1.0)

    def _scaler(self) -> Any:
        """Return the loss scaler, if there is one."""
        if self.stage == 0:
            return self._engine.torch_autocast_z0_gradscaler
        return self.optimizer.torch_autocast_gradscaler

    # -- state ---------------------------------------------------------------------------------

    @contextmanager
    def gathered_weights(self) -> Iterator[None]:
        """Enclose what reads the weights of `module`: inside, every rank has all of them."""
        import deepspeed

        with deepspeed.zero.GatheredParameters(
            list(self.module.parameters()), enabled=self.stage == 3
        ):
            yield

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Load these weights, also into the float32 copies that ZeRO updates."""
        import deepspeed
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

        # With a modifier's rank, the values are broadcast from there and partitioned again.
        with deepspeed.zero.GatheredParameters(
            list(self.module.parameters()), modifier_rank=0, enabled=self.stage == 3
        ):
            self.module.load_state_dict(state)
        for name, parameter in self.module.named_parameters():
            if not parameter.requires_grad:  # ZeRO updates no frozen parameter
                continue
            value = state[name].to(self.device)
            if self.stage == 3:
                safe_set_local_fp32_param(parameter, self._own_part(parameter, value))
            elif self.stage > 0:
                safe_set_full_fp32_param(parameter, value)

    def _own_part(self, parameter: Any, value: Tensor) -> Tensor:
        """Return this rank's part of a value under stage 3, which pads the last rank's."""
        size = parameter.ds_tensor.numel()
        flat = torch.zeros(size * distributed.world_size(), device=value.device)
        flat[: value.numel()] = value.flatten()
        return flat.view(-1, size)[distributed.rank()]

    def _optimizer_state(self) -> dict[str, Any]:
        """Return what torch's Adam would: for each parameter's number its step and moments."""
        from deepspeed.utils import safe_get_full_optimizer_state

        if self.stage == 0:
            return super()._optimizer_state()
        inner = self.optimizer.optimizer
        steps = [float(s["step"]) for s in inner.state.values()]
        states: dict[int, dict[str, Tensor]] = {}
        for i, parameter in enumerate(self.module.parameters()):
            if not steps:
                break
            if not parameter.requires_grad:
                continue
            moments = {
                key: safe_get_full_optimizer_state(parameter, key).cpu().clone() for key in MOMENTS
            }
            states[i] = {"step": torch.tensor(steps[0]), **moments}
        return {"state": states}

    def _load_optimizer_state(self, state: dict[str, Any]) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        if not state["state"]:
            return
        if self.stage == 0:
            super()._load_optimizer_state(state)
            return
        self._make_empty_moments(next(iter(state["state"].values()))["step"])
        for i, parameter in enumerate(self.module.parameters()):
            for key in MOMENTS if parameter.requires_grad else ():
                value = state["state"][i][key].to(self.device)
                if self.stage == 3:
                    part = self._own_part(parameter, value)
                    safe_set_local_optimizer_state(parameter, part, key)
                else:
                    safe_set_full_optimizer_state(parameter, value, key)

    def _make_empty_moments(self, step: Tensor) -> None:
        """Create what Adam creates at its first step, over the flat parts that ZeRO gives it."""
        zero = self.optimizer
        parts = (
            zero.fp32_partitioned_groups_flat
            if self.stage == 3
            else zero.single_partition_of_fp32_groups
        )
        for part in parts:
            moments = {key: torch.zeros_like(part) for key in MOMENTS}
            zero.optimizer.state[part] = {"step": step.to(part.device).clone(), **moments}
        if self.stage < 3:
            zero._lazy_init_hp_params_optimizer_state()  # links parameters to their parts
