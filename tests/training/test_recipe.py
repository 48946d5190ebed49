"""Each rule that chooses a part of an experiment, alone."""

from collections import Counter

import numpy as np
import pytest

from ganscale.config.load import load
from ganscale.training import recipe


@pytest.mark.parametrize(
    ("sides", "gpu", "side"),
    [
        ([300] * 10, True, 256),
        ([300] * 10, False, 64),
        ([300] * 19 + [50], True, 256),  # one of twenty is enlarged
        ([300] * 8 + [70] * 2, True, 64),  # two of ten would be
        ([28] * 5, True, 32),
    ],
)
def test_the_resolution_enlarges_few_images(sides: list[int], gpu: bool, side: int) -> None:
    assert recipe.choose_resolution(np.array([sides, sides]).T, gpu).value == side


@pytest.mark.parametrize(
    ("sizes", "resolution"),
    [
        ([(400, 600)] * 10, [64, 96]),
        ([(610, 400)] * 10, [96, 64]),
        ([(400, 430)] * 10, 64),  # cut to the square
        ([(400, 600)] * 5 + [(600, 400)] * 5, 64),
        ([(400, 4000)] * 10, [64, 192]),
    ],
)
def test_images_of_one_shape_keep_it(
    sizes: list[tuple[int, int]], resolution: int | list[int]
) -> None:
    chosen = recipe.choose_resolution(np.array(sizes), False).value
    assert chosen == resolution
    load(None, [f"data.resolution={chosen}", "generator.network.architecture=dcgan"])


@pytest.mark.parametrize(
    ("kinds", "grey", "channels"),
    [
        ({"PNG L": 3, "PNG I;16 16 bit": 1}, True, 1),
        ({"JPEG RGB": 3}, True, 1),
        ({"JPEG RGB": 3, "PNG L": 9}, False, 3),
    ],
)
def test_channels(kinds: dict[str, int], grey: bool, channels: int) -> None:
    assert recipe.choose_channels(Counter(kinds), grey).value == channels


@pytest.mark.parametrize(
    ("classes", "number"),
    [
        ({}, None),
        ({"a": 500, "b": 100}, 2),
        ({"a": 500, "b": 99}, None),
        ({str(i): 100 for i in range(1001)}, None),
    ],
)
def test_classes_are_used_if_each_can_be_learnt(
    classes: dict[str, int], number: int | None
) -> None:
    assert recipe.choose_classes(Counter(classes)).value == number


def test_rare_classes_are_named_in_the_reason() -> None:
    assert "b has only 9 images" in recipe.choose_classes(Counter(a=500, b=9)).reason


def test_uneven_classes_are_balanced() -> None:
    assert recipe.choose_balance(Counter(a=1100, b=100)).value
    assert not recipe.choose_balance(Counter(a=1000, b=100)).value


@pytest.mark.parametrize(
    ("images", "resolution", "gpu", "size"),
    [
        (9000, 32, True, 128),
        (9000, 64, True, 128),
        (9000, 256, True, 32),
        (9000, 64, False, 32),
        (20, 64, False, 8),
    ],
)
def test_the_batch_fits_the_resolution_the_machine_and_the_set(
    images: int, resolution: int, gpu: bool, size: int
) -> None:
    assert recipe.choose_batch_size(images, resolution, gpu).value == size


def test_the_penalty_grows_with_the_number_of_pixels() -> None:
    weights = [recipe.choose_penalty_weight(side).value for side in (32, 64, 128)]
    assert weights == [0.25, 1, 4]


def test_small_sets_are_augmented() -> None:
    few, some, many = (recipe.choose_augmentation(n).value for n in (9_999, 10_000, 50_000))
    assert few == {"policy": ["color", "translation", "cutout"]}
    assert some["adaptive"] == {}
    assert some["probability"] == 0
    assert many is None


def test_the_average_is_longer_for_larger_batches() -> None:
    assert recipe.choose_ema(32).value == 10_000
    assert recipe.choose_ema(128).value == 40_000


def test_steps_show_each_image_a_hundred_times_within_limits() -> None:
    assert recipe.choose_steps(100_000, 100).value == 100_000
    assert recipe.choose_steps(10, 100).value == 10_000
    assert recipe.choose_steps(10**9, 100).value == 250_000


def test_what_is_scored_depends_on_labels_and_number() -> None:
    for classes, by in ((["a", "b"], "by a classifier"), ([], "from rotations")):
        few = recipe.choose_evaluation(500, classes, 1000)
        assert few.value == {"every": 50, "samples": 1000, "best": "kid"}
        assert by in few.reason
    assert recipe.choose_evaluation(90_000, [], 1000).value["best"] == "fid"
