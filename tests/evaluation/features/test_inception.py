"""Inception with weights drawn at random: what is measured here is not what it knows."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from ganscale.errors import GanscaleError
from ganscale.evaluation.features.inception import CleanInception, Inception
from ganscale.evaluation.features.network import Opening
from ganscale.files import sha256_of_file
from ganscale.gan.sampling import from_pixels
from tests.evaluation.replay import HOST


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        untrained = FeatureExtractorInceptionV3("random", ["2048"], str(path))
    torch.save(untrained.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def network(weights: Path) -> Inception:
    return Inception.from_file(str(weights), HOST)


@pytest.fixture(scope="module")
def clean(weights: Path) -> CleanInception:
    return CleanInception.from_file(str(weights), HOST)


@pytest.fixture(scope="module")
def theirs(weights: Path) -> FeatureExtractorInceptionV3:
    return FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"], str(weights))


def test_features_are_torch_fidelitys(
    weights: Path, network: Inception, theirs: FeatureExtractorInceptionV3
) -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    measured = network.measure(images)
    assert measured.features.shape == (2, 2048)
    assert measured.logits.shape == (2, 1008)
    assert torch.equal(measured.features, theirs(images)[0])
    assert network.checksum == sha256_of_file(weights)
    assert Inception.source.address == URL_INCEPTION_V3


def test_clean_features_are_those_of_images_that_pillow_has_resized(
    clean: CleanInception, theirs: FeatureExtractorInceptionV3
) -> None:
    images = torch.randint(0, 256, (1, 3, 40, 32), dtype=torch.uint8)
    resized = np.stack(
        [
            np.asarray(Image.fromarray(channel).resize((299, 299), Image.Resampling.BICUBIC)).clip(
                0, 255
            )
            for channel in images[0].float().numpy()
        ]
    )
    ready = torch.from_numpy((resized - 128) / 128)[None]
    with theirs.Conv2d_1a_3x3.register_forward_pre_hook(lambda *_: (ready,)):
        features, logits = theirs(images)
    measured = clean.measure(images)
    torch.testing.assert_close(measured.features, features, rtol=1e-3, atol=1e-12)
    torch.testing.assert_close(measured.logits, logits, rtol=1e-3, atol=1e-12)


def test_both_are_the_same_for_images_that_need_no_resizing(
    network: Inception, clean: CleanInception
) -> None:
    images = torch.randint(0, 256, (1, 3, 299, 299), dtype=torch.uint8)
    for ours, others in zip(clean.measure(images), network.measure(images), strict=True):
        assert torch.equal(ours, others)


def test_grey_images_become_three_equal_channels(network: Inception) -> None:
    grey = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    assert torch.equal(network.measure(grey)[0], network.measure(grey.repeat(1, 3, 1, 1))[0])


def test_images_that_are_not_rounded_are_measured_like_their_pixels(
    network: Inception, clean: CleanInception
) -> None:
    grey = torch.randint(0, 256, (1, 1, 28, 28), dtype=torch.uint8)
    for either in (network, clean):
        of_pixels, found = either.measure(grey), either.measure(from_pixels(grey))
        assert torch.allclose(found.features, of_pixels.features, rtol=1e-3, atol=1e-12)
        half_a_level = either.measure(from_pixels(grey) + 1 / 255)
        assert not torch.allclose(half_a_level.features, of_pixels.features, rtol=1e-3, atol=1e-12)


def test_16_bits_are_rounded_and_other_channels_are_refused(network: Inception) -> None:
    deep = torch.randint(0, 2**16, (1, 1, 28, 28), dtype=torch.int32)
    rounded = (deep / 257).round().to(torch.uint8)
    found = network.measure(deep.to(torch.uint16))
    assert torch.equal(found.features, network.measure(rounded).features)
    images = SimpleNamespace(image_shape=(5, 28, 28))
    with pytest.raises(GanscaleError, match=r"Inception sees grey or RGB.*data\.channels=5"):
        Inception.open(Opening(None, images, None, HOST, None))  # type: ignore[arg-type]


def test_weights_of_ones_own_are_named_in_the_scores_and_others_are_refused(
    network: Inception, clean: CleanInception, tmp_path: Path
) -> None:
    mine = f"(unpublished weights {network.checksum[:8]})"
    assert network.description == f"Inception v3 features {mine}"
    assert clean.description == f"Inception v3 features after clean-fid's resizing {mine}"
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(GanscaleError, match=r"other\.pth' cannot be used .*evaluation\.weights"):
        Inception.from_file(str(tmp_path / "other.pth"), HOST)
