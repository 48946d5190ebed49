"""From latents to pictures: ways between two latents, and images as bytes."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Interpolate along a sphere, near which normal latents lie, unlike a line (White 2016).

    a, b: latents (N, dim); t: 0-dimensional, from 0 to 1.
    """
    cosine = cosine_similarity(a, b, dim=1).clamp(-0.9999, 0.9999)
    angle = torch.arccos(cosine)[:, None]
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def to_uint8(images: Tensor) -> Tensor:
    """Convert images in [-1, 1] to uint8 pixels 0 … 255, rounded to nearest, in host memory."""
    return ((images.float() + 1) * 127.5).round_().clamp_(0, 255).to("cpu", torch.uint8)
