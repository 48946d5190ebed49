"""Each transformation against what it is said to do; all of them differentiable and repeatable."""

import pytest
import torch
from torch import Tensor

from ganscale.gan.augment import TRANSFORMS, augment
from tests.gan.pictures import Uniform, always, picture, policy


def drawn(number: int, seed: int = 0) -> Uniform:
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.rand(number, *shape, generator=generator)


@pytest.mark.parametrize("name", TRANSFORMS.names())
@pytest.mark.parametrize("channels", [1, 3])
def test_each_keeps_the_shape_passes_a_gradient_and_repeats(name: str, channels: int) -> None:
    images = torch.randn(6, channels, 12, 12, requires_grad=True)
    changed = augment(images, policy(name), 1.0, drawn(6))
    assert changed.shape == images.shape
    assert torch.equal(changed, augment(images, policy(name), 1.0, drawn(6)))
    changed.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("name", [n for n in TRANSFORMS.names() if n != "hue_saturation"])
def test_an_image_is_changed_whatever_its_batch(name: str) -> None:
    images = torch.randn(5, 1, 12, 12)
    together = drawn(5)
    numbers: list[Tensor] = []

    def noted(shape: tuple[int, ...]) -> Tensor:
        numbers.append(together(shape))
        return numbers[-1]

    whole = augment(images, policy(name), 1.0, noted)
    replay = iter(numbers)
    alone = augment(images[2:3], policy(name), 1.0, lambda shape: next(replay)[2:3])
    assert torch.allclose(whole[2:3], alone, atol=1e-6)


def test_the_probability_is_that_of_each_image() -> None:
    images = torch.ones(4000, 1, 4, 4)
    changed = augment(images, policy("brightness"), 0.3, drawn(4000))
    share = (changed != images).flatten(1).any(1).float().mean().item()
    assert share == pytest.approx(0.3, abs=0.03)
    assert torch.equal(augment(images, policy(*TRANSFORMS.names()), 0.0, drawn(4000)), images)


def test_translation_moves_and_fills_with_grey() -> None:
    image = picture()
    moved = TRANSFORMS.get("translation")(image, always(0.999, 0.5))  # two down, none across
    assert torch.equal(moved[:, :, :-2], image[:, :, 2:])
    assert not moved[:, :, -2:].any()


def test_shift_mirrors_what_comes_in() -> None:
    image = picture()
    moved = TRANSFORMS.get("shift")(image, always(0.999, 0.5))
    assert torch.equal(moved[:, :, :-2], image[:, :, 2:])
    assert torch.equal(moved[:, :, -2:], image[:, :, -3:-1].flip(2))


def test_cutout_greys_a_square_of_half_the_side() -> None:
    cut = TRANSFORMS.get("cutout")(torch.ones(1, 1, 16, 16), always(0.5, 0.5))
    assert not cut[:, :, 4:12, 4:12].any()
    assert cut.sum() == 16 * 16 - 8 * 8


def test_each_side_of_an_image_that_is_not_square_counts() -> None:
    image = torch.rand(1, 2, 16, 32)
    moved = TRANSFORMS.get("translation")(image, always(0.999, 0.999))  # an eighth on either side
    assert torch.equal(moved[:, :, :14, :28], image[:, :, 2:, 4:])
    assert not moved[:, :, 14:].any()
    assert not moved[:, :, :, 28:].any()
    shifted = TRANSFORMS.get("shift")(image, always(0.0, 0.0))
    assert torch.equal(shifted[:, :, 2:, 4:], image[:, :, :14, :28])
    assert torch.equal(shifted[:, :, 2:, :4], image[:, :, :14, 1:5].flip(3))
    cut = TRANSFORMS.get("cutout")(torch.ones(1, 1, 16, 32), always(0.5, 0.25))
    assert not cut[:, :, 4:12, :16].any()
    assert cut.sum() == 16 * 32 - 8 * 16
    # A turn is one of pixels: the square in the middle turns as it does alone.
    turn = always(0.75)
    turned = TRANSFORMS.get("rotate")(image, turn)
    alone = TRANSFORMS.get("rotate")(image[:, :, :, 8:24], turn)
    assert torch.allclose(turned[:, :, :, 8:24], alone, atol=1e-5)
    assert torch.allclose(alone, torch.rot90(image[:, :, :, 8:24], 1, (2, 3)), atol=1e-5)


def test_flip_and_quarter_turns() -> None:
    image = picture()
    assert torch.equal(TRANSFORMS.get("flip")(image, always(0.2)), image.flip(3))
    assert torch.equal(TRANSFORMS.get("flip")(image, always(0.8)), image)
    for k in range(4):
        turned = TRANSFORMS.get("rotate90")(image, always((k + 0.5) / 4))
        assert torch.equal(turned, torch.rot90(image, k, (2, 3)))


def test_rotation_by_a_half_turn_is_both_flips_and_scale_enlarges() -> None:
    image = picture()
    assert torch.allclose(TRANSFORMS.get("rotate")(image, always(1.0)), image.flip(2, 3), atol=1e-4)
    square = torch.zeros(1, 1, 16, 16)
    square[:, :, 6:10, 6:10] = 1
    assert TRANSFORMS.get("scale")(square, always(0.99)).sum() > 1.5 * square.sum()
    assert torch.allclose(TRANSFORMS.get("scale")(image, always(0.5)), image, atol=1e-5)


def test_colours_turn_about_grey() -> None:
    image = picture()
    change = TRANSFORMS.get("hue_saturation")
    third = change(image, always(0.5 + 1 / 3, 0.5))  # a third of a turn swaps the channels
    assert torch.allclose(third, image.roll(1, 1), atol=1e-5)
    assert torch.allclose(change(image, always(0.5, 0.5)), image, atol=1e-6)
    grey = image[:, :1].expand(1, 3, 16, 16)
    assert torch.allclose(change(grey, always(0.9, 0.9)), grey, atol=1e-6)


def test_diffaugments_colours() -> None:
    image = picture()
    changed = TRANSFORMS.get("color")(image, always(0.75, 0.5, 0.5))
    assert torch.allclose(changed, image + 0.25, atol=1e-6)
    assert (
        TRANSFORMS.get("color")(image, always(0.5, 0.0, 0.5)).std(1).max() < 1e-6
    )  # no saturation
