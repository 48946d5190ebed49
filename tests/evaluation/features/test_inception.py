"""Inception with weights drawn at random: what is measured here is not what it knows."""

import os
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ganscale.errors import GanscaleError
from ganscale.evaluation.features.inception import Inception, open_inception
from ganscale.evaluation.features.network import Opening
from ganscale.files import sha256_of_file
from ganscale.gan.sampling import from_pixels

HOST = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        untrained = FeatureExtractorInceptionV3("random", ["2048"], str(path))
    torch.save(untrained.state_dict(), path)
    return path


def test_features_are_torch_fidelitys(weights: Path) -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    network = open_inception(weights, HOST)
    measured = network.measure(images)
    assert measured.features.shape == (2, 2048)
    assert measured.logits.shape == (2, 1008)
    theirs = FeatureExtractorInceptionV3("theirs", ["2048"], str(weights))
    assert torch.equal(measured.features, theirs(images)[0])
    assert network.checksum == sha256_of_file(weights)


def test_grey_images_become_three_equal_channels(weights: Path) -> None:
    grey = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    network = open_inception(weights, HOST)
    assert torch.equal(network.measure(grey)[0], network.measure(grey.repeat(1, 3, 1, 1))[0])


def test_images_that_are_not_rounded_are_measured_like_their_pixels(weights: Path) -> None:
    grey = torch.randint(0, 256, (1, 1, 28, 28), dtype=torch.uint8)
    network = open_inception(weights, HOST)
    of_pixels, found = network.measure(grey), network.measure(from_pixels(grey))
    assert torch.allclose(found.features, of_pixels.features, rtol=1e-3, atol=1e-12)
    half_a_level = network.measure(from_pixels(grey) + 1 / 255)
    assert not torch.allclose(half_a_level.features, of_pixels.features, rtol=1e-3, atol=1e-12)


def test_16_bits_are_rounded_and_other_channels_are_refused(weights: Path) -> None:
    deep = torch.randint(0, 2**16, (2, 1, 28, 28), dtype=torch.int32)
    network, rounded = open_inception(weights, HOST), (deep / 257).round().to(torch.uint8)
    found = network.measure(deep.to(torch.uint16))
    assert torch.equal(found.features, network.measure(rounded).features)
    images = SimpleNamespace(image_shape=(5, 28, 28))
    with pytest.raises(GanscaleError, match=r"Inception sees grey or RGB.*data\.channels=5"):
        Inception.open(Opening(None, images, None, HOST, None))  # type: ignore[arg-type]


def test_without_a_network_one_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(GanscaleError, match=r"cannot be downloaded.*evaluation\.inception_weights"):
        open_inception(None, HOST)


def test_a_file_of_something_else_is_refused_and_not_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save(Harmful(), tmp_path / "harmful.pth")
    with pytest.raises(GanscaleError, match="cannot be used"):
        open_inception(tmp_path / "harmful.pth", HOST)
    assert not (tmp_path / "harm").exists()
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(GanscaleError, match=r"text\.pth.*cannot be used"):
        open_inception(tmp_path / "text.pth", HOST)


@pytest.mark.parametrize("kind", ["device", "FIFO"])
def test_a_file_without_an_end_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """A stranger's experiment names the file."""
    weights = Path("/dev/zero")
    if kind == "FIFO":
        weights = tmp_path / "fifo"
        os.mkfifo(weights)
    with pytest.raises(GanscaleError, match=r"cannot be used .*not a regular file"):
        open_inception(weights, HOST)


def test_a_file_too_large_to_be_weights_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.pth").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(GanscaleError, match=r"cannot be used .*larger than"):
        open_inception(tmp_path / "large.pth", HOST)
