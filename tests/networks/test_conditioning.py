"""Mixtures of classes: what a network looks up for them, against the formula written out."""

from typing import Any

import pytest
import torch
from torch import nn

from ganscale.networks.conditioning import look_up
from ganscale.networks.registry import GENERATORS

CLASSES = 4
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (8,)},
    "dcgan": {"width": 4},
    "resnet": {"width": 4},
}


def test_a_mixture_is_the_sum_of_the_rows_by_their_shares() -> None:
    table = nn.Embedding(CLASSES, 3)
    mixed = look_up(table, torch.tensor([[0.25, 0.0, 0.75, 0.0], [0.0, 1.0, 0.0, 0.0]]))
    rows = table.weight
    assert torch.allclose(mixed[0], 0.25 * rows[0] + 0.75 * rows[2])
    assert torch.equal(mixed[1], look_up(table, torch.tensor([1]))[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_share_1_of_a_class_gives_its_images(name: str) -> None:
    network = GENERATORS.get(name)(
        latent_dim=5, image_shape=(1, 16, 16), classes=CLASSES, **NETWORKS[name]
    ).eval()
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, 1.0)
    latents, labels = torch.randn(CLASSES, 5), torch.arange(CLASSES)
    with torch.no_grad():
        wanted = network(latents, labels)
        assert torch.allclose(network(latents, torch.eye(CLASSES)), wanted, atol=1e-6)
        half = network(latents, torch.full((CLASSES, CLASSES), 1 / CLASSES))
    assert (half - wanted).abs().max() > 1e-3
