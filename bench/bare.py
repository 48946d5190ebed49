"""What the trainer computes, in a plain loop that is as fast as eager PyTorch gets."""

from collections.abc import Callable

import torch
from setting import Setting
from torch import Tensor
from torch.nn.functional import relu, softplus

EMA_DECAY = 0.99
DISCRIMINATOR_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "non_saturating": lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
    "hinge": lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(),
    "relativistic": lambda real, fake: softplus(fake - real).mean(),
}
GENERATOR_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "non_saturating": lambda fake: softplus(-fake).mean(),
    "hinge": lambda fake: -fake.mean(),
}


class BareLoop:
    """What the trainer computes, in a plain loop: the costs of a trainer are left out.

    The discriminator is frozen while the generator learns, Adam is fused, real and generated
    images share a pass where they may, and R1 and R2, of one weight, use the logits of that pass.
    """

    def __init__(self, setting: Setting):
        experiment = setting.experiment
        self._setting = setting
        self._generator, self._discriminator = setting.networks()
        channels_last = experiment.train.channels_last
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        for network in (self._generator, self._discriminator):
            network.to(memory_format=self._layout)
        self._average = [p.detach().clone() for p in self._generator.parameters()]
        self._learns_g = setting.adam(self._generator, fused=True)
        self._learns_d = setting.adam(self._discriminator, fused=True)
        self._size = experiment.train.batch_size
        batch = torch.from_numpy(setting.images[: self._size]).permute(0, 3, 1, 2)
        self._batch = batch.to(setting.device)
        self._loss = experiment.objective.loss
        self._weight = setting.penalty_weight()

    def __call__(self) -> None:
        """Do a step."""
        for _ in range(self._setting.experiment.discriminator.steps):
            self.discriminator_loss().backward()
            self._learns_d.step()
            self._learns_d.zero_grad()
        self._discriminator.requires_grad_(False)
        self.generator_loss().backward()
        self._learns_g.step()
        self._learns_g.zero_grad()
        self._discriminator.requires_grad_(True)
        learned = [p.detach() for p in self._generator.parameters()]
        torch._foreach_lerp_(self._average, learned, 1 - EMA_DECAY)

    def discriminator_loss(self) -> Tensor:
        """Return the loss with its penalties."""
        real = self._real()
        with self._setting.autocast():
            with torch.no_grad():
                fake = self._generator(self._setting.latents()).float()
            if self._discriminator.treats_images_one_by_one:
                both = torch.cat([real, fake]).requires_grad_(self._weight > 0)
                logits = self._discriminator(both).float()
            else:
                parts = [self._discriminator(images) for images in (real, fake)]
                logits = torch.cat(parts).float()
        loss = DISCRIMINATOR_LOSSES[self._loss](*logits.chunk(2))
        if self._weight:
            (gradient,) = torch.autograd.grad(logits.sum(), both, create_graph=True)
            loss = loss + self._weight / 2 * gradient.square().sum() / self._size
        return loss

    def generator_loss(self) -> Tensor:
        """Return the loss; the discriminator is frozen."""
        with self._setting.autocast():
            logits = self._discriminator(self._generator(self._setting.latents())).float()
            if self._loss != "relativistic":
                return GENERATOR_LOSSES[self._loss](logits)
            with torch.no_grad():
                of_real = self._discriminator(self._real()).float()
        return softplus(of_real - logits).mean()

    def _real(self) -> Tensor:
        return (self._batch.float() / 127.5 - 1).contiguous(memory_format=self._layout)
