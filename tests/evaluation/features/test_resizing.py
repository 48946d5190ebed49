"""Pillow itself is the second implementation."""

import numpy as np
import pytest
import torch
from PIL import Image

from ganscale.evaluation.features.resizing import resize_bicubic, resize_bicubic_rounded

SIZES = [((32, 32), (299, 299)), ((28, 40), (224, 313)), ((300, 260), (224, 224))]


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_each_channel_is_resized_in_float32_as_by_clean_fid(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, *before), np.uint8)
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in pixels]
    theirs = [
        np.asarray(channel.resize(after[::-1], Image.Resampling.BICUBIC)).clip(0, 255)
        for channel in channels
    ]
    ours = resize_bicubic(torch.from_numpy(pixels)[None].float(), *after)[0].numpy()
    np.testing.assert_allclose(ours, np.stack(theirs), atol=0.01)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_bytes_are_resized_and_rounded_the_width_first(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*before, 3), np.uint8)
    widened = Image.fromarray(pixels).resize((after[1], before[0]), Image.Resampling.BICUBIC)
    theirs = np.asarray(widened.resize(after[::-1], Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    images = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float()
    ours = resize_bicubic_rounded(images, *after)[0].numpy()
    apart = np.abs(ours - theirs)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.002
