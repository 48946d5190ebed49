"""R1 and R2 with a forward pass of their own, as ganscale computed them before they shared one."""

from torch import Tensor

from ganscale.gan.penalties import Discriminator, Penalty, Uniform, input_gradient


class SeparateR1(Penalty):
    """½E‖∇D(x)‖² at real images."""

    def __call__(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, random: Uniform
    ) -> Tensor:
        return 0.5 * input_gradient(discriminator, real).square().sum(1).mean()


class SeparateR2(Penalty):
    """½E‖∇D(G(z))‖² at generated images."""

    def __call__(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, random: Uniform
    ) -> Tensor:
        return 0.5 * input_gradient(discriminator, fake).square().sum(1).mean()
