"""Networks written out by hand, and their weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Weights = dict[str, Tensor]


def weights_of(network: nn.Module) -> Weights:
    """Weights and biases by the layer's name, as the layer uses them."""
    found = {}
    for name, module in network.named_modules():
        for part in ("weight", "bias"):
            if isinstance(value := getattr(module, part, None), Tensor):
                found[f"{name}.{part}"] = value
    return found


def projected(features: Tensor, table: Tensor, labels: Tensor) -> Tensor:
    rows = zip(features, labels.tolist(), strict=True)
    return torch.stack([sum(f * t for f, t in zip(row, table[y], strict=True)) for row, y in rows])


def pooled(x: Tensor) -> Tensor:
    even, odd = slice(0, None, 2), slice(1, None, 2)
    return sum(x[:, :, a, b] for a in (even, odd) for b in (even, odd)) / 4


def conv(x: Tensor, w: Weights, name: str) -> Tensor:
    """Padded so that the side stays."""
    weight = w[f"{name}.weight"]
    return F.conv2d(x, weight, w[f"{name}.bias"], padding=weight.shape[-1] // 2)


def resnet_logits(
    images: Tensor, w: Weights, halvings: int, sums: bool, labels: Tensor | None = None
) -> Tensor:
    """SNGAN's and WGAN-GP's discriminator: `halvings` blocks that halve, and two that do not."""
    x = images
    for i in range(halvings + 2):
        name = f"blocks.{i}"
        h = conv(x if i == 0 else torch.relu(x), w, f"{name}.conv1")
        h = conv(torch.relu(h), w, f"{name}.conv2")
        shortcut = conv(x, w, f"{name}.shortcut") if f"{name}.shortcut.weight" in w else x
        x = pooled(h) + pooled(shortcut) if i < halvings else h + shortcut
    x = torch.relu(x).sum((2, 3)) if sums else torch.relu(x).mean((2, 3))
    logits = x @ w["logit.weight"][0] + w["logit.bias"]
    if labels is None:
        return logits
    return logits + projected(x, w["projection.table.weight"], labels)


def resampler() -> Tensor:
    row = torch.tensor([1.0, 2.0, 1.0])
    row = F.pad(row, (0, 1)) + F.pad(row, (1, 0))  # [1, 2, 1] convolved with [1, 1]
    kernel = row[:, None] * row
    return (kernel / kernel.sum())[None, None]


def halved(x: Tensor) -> Tensor:
    half = F.conv2d(x.flatten(0, 1)[:, None], resampler(), None, stride=2, padding=1)
    return half[:, 0].unflatten(0, x.shape[:2])


def doubled(x: Tensor) -> Tensor:
    maps, kernel = x.flatten(0, 1)[:, None], 4 * resampler()
    twice = F.conv_transpose2d(maps, kernel, None, stride=2, padding=1)
    return twice[:, 0].unflatten(0, x.shape[:2])
