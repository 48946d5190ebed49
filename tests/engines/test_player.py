"""A player alone: which parameters are trained, and what a missing gradient counts as."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ganscale.config import Experiment
from ganscale.engines.player import Player


class Network(nn.Module):
    """One part that is used, one that is not, and one that is never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 1)
        self.unused = nn.Linear(4, 1)
        self.pretrained = nn.Linear(4, 4).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.used(self.pretrained(images))
        return logits


def player() -> Player:
    experiment = Experiment.model_validate({"name": "one", "data": {"path": "nowhere"}})
    return Player(
        "discriminator",
        Accelerator(cpu=True),
        Network(),
        experiment.discriminator,
        experiment.train,
    )


def trained(player: Player) -> list[str]:
    return [name for name, p in player.module.named_parameters() if p.requires_grad]


def test_parameters_that_a_network_froze_stay_frozen() -> None:
    discriminator = player()
    before = trained(discriminator)
    with discriminator.frozen():
        assert not trained(discriminator)
    assert trained(discriminator) == before
    assert not any(name.startswith("pretrained") for name in before)


def test_a_missing_gradient_is_zero_so_that_ranks_can_add_theirs() -> None:
    discriminator = player()
    with discriminator.micro_batch(last=True):
        discriminator.backward(discriminator(torch.ones(2, 4)).sum())
    gradients = {name: p.grad for name, p in discriminator.module.named_parameters()}
    assert torch.equal(gradients["unused.weight"], torch.zeros(1, 4))
    assert gradients["used.weight"].abs().sum() > 0
    assert gradients["pretrained.weight"] is None
    weights = discriminator.module.unused.weight.clone()
    discriminator.step()
    assert torch.equal(discriminator.module.unused.weight, weights)
