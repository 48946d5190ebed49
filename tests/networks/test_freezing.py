"""Frozen lower stages of a discriminator: which parameters these are, written out by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ganscale.errors import GanscaleError
from ganscale.networks.dcgan import DCGANDiscriminator
from ganscale.networks.freezing import freeze_lower_stages
from ganscale.networks.mlp import MLPDiscriminator
from ganscale.networks.r3gan import R3GANDiscriminator
from ganscale.networks.resnet import ResNetDiscriminator

SHAPE = (3, 32, 32)
# What begins the names of each stage's parameters, from the image on.
STAGES: dict[str, tuple[Callable[[], nn.Module], list[tuple[str, ...]]]] = {
    "mlp": (lambda: MLPDiscriminator(SHAPE, [8, 4]), [("layers.1.",), ("layers.3.",)]),
    "mlp without hidden layers": (lambda: MLPDiscriminator(SHAPE, []), []),
    "dcgan": (
        lambda: DCGANDiscriminator(SHAPE, width=4, attention=8),
        [("layers.0.",), ("layers.2.", "layers.3."), ("layers.4.",), ("layers.5.",)],
    ),
    "dcgan with attention at once": (
        lambda: DCGANDiscriminator(SHAPE, width=4, attention=16, norm="spectral"),
        [("layers.0.", "layers.2."), ("layers.3.",), ("layers.4.",), ("layers.5.",)],
    ),
    "resnet": (
        lambda: ResNetDiscriminator(SHAPE, width=8, attention=16),
        [("blocks.0.", "blocks.1."), ("blocks.2.",), ("blocks.3.",), ("blocks.4.",)],
    ),
    "r3gan": (
        lambda: R3GANDiscriminator((3, 16, 16), [8, 8, 4], 2, 4),
        [
            ("pixels.", "layers.0.", "layers.1."),
            ("layers.2.", "layers.3.", "layers.4."),
            ("layers.5.", "layers.6.", "layers.7."),
        ],
    ),
}


@pytest.mark.parametrize("name", STAGES)
def test_the_lower_stages_are_frozen_and_no_other(name: str) -> None:
    build, stages = STAGES[name]
    for number in range(len(stages) + 1):
        network = build()
        below = tuple(beginning for stage in stages[:number] for beginning in stage)
        frozen = freeze_lower_stages(network, number)
        for parameter_name, parameter in network.named_parameters():
            is_below = parameter_name.startswith(below)
            assert parameter.requires_grad == (not is_below), parameter_name
            assert (parameter_name in frozen) == is_below
    with pytest.raises(GanscaleError, match=f"has {len(stages)} stages below the logit"):
        freeze_lower_stages(build(), len(stages) + 1)


def test_a_frozen_layer_goes_on_as_in_training() -> None:
    """BatchNorm normalises by the batch, and the singular vectors follow the weights."""
    torch.manual_seed(0)
    images = torch.randn(4, *SHAPE)
    for norm, moving in (("batch", "running_mean"), ("spectral", "_u")):
        network = DCGANDiscriminator(SHAPE, width=4, norm=norm)
        plain = DCGANDiscriminator(SHAPE, width=4, norm=norm)
        plain.load_state_dict(network.state_dict())
        freeze_lower_stages(network, 2)
        assert torch.equal(network(images), plain(images))
        for buffer, value in network.named_buffers():
            assert torch.equal(value, dict(plain.named_buffers())[buffer])
        assert any(
            name.startswith("layers.2.") and moving in name for name, _ in network.named_buffers()
        )


def test_a_network_that_does_not_say_what_its_stages_are_is_refused() -> None:
    assert freeze_lower_stages(nn.Linear(2, 2), 0) == []
    with pytest.raises(GanscaleError, match=r"Linear does not say.*method stages\(\)"):
        freeze_lower_stages(nn.Linear(2, 2), 1)
