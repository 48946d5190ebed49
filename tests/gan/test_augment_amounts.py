"""How much each transformation changes an image, in numbers written out."""

from collections.abc import Callable
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from ganscale.gan.augment import TRANSFORMS, augment
from tests.gan.pictures import always, picture, policy

SIDE = 16


def quantile(deviations: float) -> float:
    """The uniform number that stands for so many standard deviations."""
    return NormalDist().cdf(deviations)


def ramps(side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Images (1, 1, side, side) whose pixels are their own x, and their own y, from the centre."""
    along = torch.arange(side) + 0.5 - side / 2
    x = along.expand(side, side)
    return x[None, None], x.T[None, None]


def inner(images: Tensor) -> Tensor:
    """The pixels about the centre, which nothing from beyond the edges reaches."""
    return images[..., 5:11, 5:11]


@pytest.mark.parametrize("deviations", [-1.5, 0.0, 2.0])
def test_brightness_and_contrast(deviations: float) -> None:
    image, draw = picture(), always(quantile(deviations))
    brighter = TRANSFORMS.get("brightness")(image, draw)
    assert torch.allclose(brighter, image + 0.2 * deviations, atol=1e-4)
    steeper = TRANSFORMS.get("contrast")(image, draw)
    assert torch.allclose(steeper, image * 2 ** (0.5 * deviations), atol=1e-4)


@pytest.mark.parametrize(
    ("brightness", "saturation", "contrast"), [(0.1, 0.9, 0.5), (0.7, 0.3, 0.2)]
)
def test_diffaugments_colour(brightness: float, saturation: float, contrast: float) -> None:
    image = picture()
    changed = TRANSFORMS.get("color")(image, always(brightness, saturation, contrast))
    expected = image[0] + brightness - 0.5
    grey = (expected[0] + expected[1] + expected[2]) / 3
    expected = grey + 2 * saturation * (expected - grey)
    mean = expected.sum() / (3 * SIDE * SIDE)
    expected = mean + (0.5 + contrast) * (expected - mean)
    assert torch.allclose(changed[0], expected, atol=1e-5)


@pytest.mark.parametrize("deviations", [-1.0, 1.0, 3.0])
def test_scale(deviations: float) -> None:
    size = 2 ** (0.2 * deviations)
    for ramp in ramps():
        enlarged = TRANSFORMS.get("scale")(ramp, always(quantile(deviations)))
        assert torch.allclose(inner(enlarged), inner(ramp) / size, atol=1e-3)


@pytest.mark.parametrize("turn", [-0.9, -0.25, 0.1, 0.5])
def test_rotate_by_a_share_of_half_a_turn(turn: float) -> None:
    x, y = ramps()
    angle = torch.tensor(turn * torch.pi)
    draw = always((turn + 1) / 2)
    turned = TRANSFORMS.get("rotate")(x, draw)
    assert torch.allclose(inner(turned), inner(angle.cos() * x - angle.sin() * y), atol=1e-4)
    turned = TRANSFORMS.get("rotate")(y, draw)
    assert torch.allclose(inner(turned), inner(angle.sin() * x + angle.cos() * y), atol=1e-4)


def test_what_a_turn_brings_in_is_the_mirror_image() -> None:
    ones = torch.ones(1, 1, SIDE, SIDE)
    for name in ("rotate", "scale"):
        assert torch.allclose(TRANSFORMS.get(name)(ones, always(0.1)), ones)


def test_saturation_and_its_hue() -> None:
    image = picture()
    grey = image.mean(1, keepdim=True)
    doubled = TRANSFORMS.get("hue_saturation")(image, always(0.5, quantile(1.0)))
    assert torch.allclose(doubled, grey + 2 * (image - grey), atol=1e-4)
    opposite = TRANSFORMS.get("hue_saturation")(image, always(1.0, 0.5))  # half a turn
    assert torch.allclose(opposite, 2 * grey - image, atol=1e-5)
    quarter = TRANSFORMS.get("hue_saturation")(image, always(0.75, 0.5))
    _, green, blue = image[0]
    assert torch.allclose(quarter[0, 0], grey[0, 0] + (blue - green) / 3**0.5, atol=1e-5)
    one_channel = picture(channels=1)
    assert torch.equal(TRANSFORMS.get("hue_saturation")(one_channel, always(0.9, 0.9)), one_channel)


def test_cutout_away_from_the_centre() -> None:
    ones = torch.ones(1, 1, SIDE, SIDE)
    cut = TRANSFORMS.get("cutout")(ones, always(0.125, 0.75))  # centred at row 2, column 12
    expected = ones.clone()
    expected[:, :, :6, 8:] = 0
    assert torch.equal(cut, expected)


def moves(name: str, side: int, axis: int) -> list[int]:
    """By how many pixels a line is moved, for 360 draws from 0 to 1."""
    image = torch.zeros(1, 1, side, side)
    middle = side // 2
    image.select(axis, middle).fill_(1)
    found = []
    for i in range(360):
        draw = [(i + 0.5) / 360, 0.5] if axis == 2 else [0.5, (i + 0.5) / 360]
        moved = TRANSFORMS.get(name)(image, always(*draw))
        found.append(middle - int(moved.sum(5 - axis)[0, 0].argmax()))
    return found


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize(("name", "most"), [("translation", 4), ("shift", 3)])
def test_moves_are_whole_pixels_each_as_likely(name: str, most: int, axis: int) -> None:
    """An eighth of 28 is 3.5: DiffAugment rounds it up, and ADA's moves stay below it."""
    found = moves(name, 28, axis)
    counts = [found.count(pixels) for pixels in range(-most, most + 1)]
    assert sum(counts) == 360
    assert max(counts) - min(counts) <= 1


def test_shift_mirrors_at_the_first_pixel_too() -> None:
    image = picture()
    moved = TRANSFORMS.get("shift")(
        image, always(0.5, 0.0)
    )  # two to the left, so two come in there
    assert torch.equal(moved[..., 2:], image[..., :-2])
    assert torch.equal(moved[..., :2], image[..., 1:3].flip(3))


def test_translation_fills_on_either_side() -> None:
    image = picture()
    moved = TRANSFORMS.get("translation")(image, always(0.0, 0.999))
    assert torch.equal(moved[..., 2:, :-2], image[..., :-2, 2:])
    assert not moved[..., :2, :].any()
    assert not moved[..., -2:].any()


def test_whether_is_drawn_before_how() -> None:
    """An image is chosen by its first number, which does not depend on the transformation."""
    image = picture()

    def draws(*numbers: float) -> Callable[[tuple[int, ...]], Tensor]:
        left = iter(numbers)
        return lambda shape: torch.full((1, *shape), next(left))

    assert torch.equal(augment(image, policy("flip"), 0.5, draws(0.49, 0.1)), image.flip(3))
    assert torch.equal(augment(image, policy("flip"), 0.5, draws(0.5, 0.1)), image)
    assert torch.equal(
        augment(image, policy("flip", "flip"), 0.5, draws(0.1, 0.1, 0.1, 0.49)), image
    )
    assert torch.equal(augment(image, policy("flip"), 0.5, draws(0.1, 0.5)), image)
