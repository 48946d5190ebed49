"""DINOv2 and CLIP with few random weights, against transformers' and torch-fidelity's code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_clip import (
    MODEL_METADATA,
    MODEL_URLS,
    CLIPVisual,
)
from torchvision import transforms
from torchvision.transforms.functional import normalize
from transformers import Dinov2Config, Dinov2Model

from ganscale.data.reading.image_set import ImageSet
from ganscale.evaluation.distribution import Distribution
from ganscale.evaluation.features.clip import CLIP
from ganscale.evaluation.features.dinov2 import DINOv2, resize_positions
from ganscale.files import sha256_of_file
from tests.conftest import tiny
from tests.evaluation.metrics.test_fid import distance_of_images
from tests.evaluation.replay import HOST, Replay, all_images, make
from tests.evaluation.sets import digit_arrays, packed

WIDTH, DEPTH = 128, 2


def randomised(weights: dict[str, Tensor], beginning: str = "") -> dict[str, Tensor]:
    """Numbers that no initialisation leaves at 0 or 1, for names that begin so."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: 0.3 * torch.randn(value.shape, generator=generator)
        for name, value in weights.items()
        if name.startswith(beginning)
    }


@pytest.fixture(scope="module")
def transformers_dinov2() -> Dinov2Model:
    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=2, image_size=224
    )
    model = Dinov2Model(config).eval()
    model.load_state_dict(randomised(model.state_dict()))
    return model


def published_names(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of transformers' model under the names of the published file."""
    for part in ("query", "key", "value"):  # their names in older versions
        new = f"attention.{part[0]}_proj"
        theirs = {k.replace(f"attention.attention.{part}", new): v for k, v in theirs.items()}
    theirs = {k.replace("attention.output.dense", "attention.o_proj"): v for k, v in theirs.items()}
    found = {
        "cls_token": theirs["embeddings.cls_token"],
        "mask_token": theirs["embeddings.mask_token"],
        "pos_embed": theirs["embeddings.position_embeddings"],
        "patch_embed.proj.weight": theirs["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": theirs["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": theirs["layernorm.weight"],
        "norm.bias": theirs["layernorm.bias"],
    }
    for i in range(DEPTH):
        layer = f"encoder.layer.{i}."
        for kind in ("weight", "bias"):
            parts = [theirs[f"{layer}attention.{part}_proj.{kind}"] for part in "qkv"]
            found[f"blocks.{i}.attn.qkv.{kind}"] = torch.cat(parts)
            for ours, name in (
                ("attn.proj", "attention.o_proj"),
                ("norm1", "norm1"),
                ("norm2", "norm2"),
                ("mlp.fc1", "mlp.fc1"),
                ("mlp.fc2", "mlp.fc2"),
            ):
                found[f"blocks.{i}.{ours}.{kind}"] = theirs[f"{layer}{name}.{kind}"]
        for j in (1, 2):
            found[f"blocks.{i}.ls{j}.gamma"] = theirs[f"{layer}layer_scale{j}.lambda1"]
    return found


def test_dinov2_is_transformers_model_behind_pillows_resizing(
    transformers_dinov2: Dinov2Model, tmp_path: Path
) -> None:
    torch.save(published_names(transformers_dinov2.state_dict()), tmp_path / "tiny.pth")
    network = DINOv2.from_file(str(tmp_path / "tiny.pth"), HOST)
    images = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8)
    ready = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    with torch.no_grad():
        theirs = transformers_dinov2(torch.stack([ready(image) for image in images]))
    ours = network.measure(images)
    assert ours.logits.shape == (2, 0)
    torch.testing.assert_close(ours.features, theirs.last_hidden_state[:, 0], rtol=1e-3, atol=1e-3)
    grey = images[:, :1]
    same = network.measure(grey.repeat(1, 3, 1, 1)).features
    assert torch.equal(network.measure(grey).features, same)


def test_positions_are_resized_by_the_cubic_formula_with_dinov2s_offset() -> None:
    positions = torch.randn(1, 1 + 37 * 37, 3, generator=torch.Generator().manual_seed(0))
    resized = resize_positions(positions, 16)

    def cubic(x: float, a: float = -0.75) -> float:
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    along = np.zeros((16, 37))
    for i in range(16):
        place = (i + 0.5) * 37 / 16.1 - 0.5
        for k in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            along[i, min(max(k, 0), 36)] += cubic(place - k)
    grid = positions[0, 1:].reshape(37, 37, 3).double().numpy()
    by_hand = np.einsum("ih,jw,hwc->ijc", along, along, grid).reshape(256, 3)
    assert torch.equal(resized[:, 0], positions[:, 0])
    np.testing.assert_allclose(resized[0, 1:].numpy(), by_hand, atol=1e-4)
    assert resize_positions(resized, 16) is resized


@pytest.mark.parametrize("size", [(64, 64), (40, 56)])
def test_clip_is_torch_fidelitys_model_behind_clean_fids_resizing(
    size: tuple[int, int], tmp_path: Path
) -> None:
    model = CLIPVisual(32, 64, DEPTH, WIDTH, 32).eval()
    model.load_state_dict(randomised(model.state_dict()))
    torch.save({**model.state_dict(), "text_projection": torch.ones(3)}, tmp_path / "tiny.pth")
    network = CLIP.from_file(str(tmp_path / "tiny.pth"), HOST)
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    resize = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize(64, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(64),
            transforms.PILToTensor(),
        ]
    )
    ready = torch.stack([resize(image) for image in images]) / 255
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    with torch.no_grad():
        theirs = model.visual(normalize(ready, mean, std))
    ours = network.measure(images)
    assert ours.logits.shape == (2, 0)
    torch.testing.assert_close(ours.features, theirs, rtol=1e-3, atol=1e-3)
    assert network.description.startswith("CLIP ViT-B/32 features (unpublished weights ")


def test_scores_of_features_without_classes_have_their_floor_and_no_inception_score(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """There are fewer images than features."""
    model = CLIPVisual(64, 64, 1, WIDTH, 32)
    torch.save(randomised(model.state_dict(), "visual."), tmp_path / "tiny.pth")
    digits, labels = digit_arrays()
    experiment = tiny(
        packed(tmp_path / "set", digits[:30], labels[:30], 10),
        tmp_path,
        "evaluation.features=clip",
        f"evaluation.weights={tmp_path / 'tiny.pth'}",
        "evaluation.samples=20",
    )
    evaluator = make(experiment, tmp_path)
    real = all_images(experiment)
    features = evaluator.network.measure(real).features.double()
    assert features.shape == (30, 64)
    distribution = Distribution(ImageSet(experiment.data).strata())
    again = features[distribution.resample("perfect/real")]
    drawn = features[distribution.draw(20, "perfect/generated")]
    floor = distance_of_images(again, drawn)
    assert evaluator.perfect_fid == pytest.approx(floor, rel=1e-4)
    scores = evaluator.scores(Replay(real[:20]))
    assert f"20 perfect samples would get FID {floor:.3g}" in str(scores)
    assert scores["fid"] == pytest.approx(distance_of_images(features, features[:20]), rel=1e-4)
    assert "inception_score" not in scores.values
    assert scores.features_checksum == sha256_of_file(tmp_path / "tiny.pth")
    assert "30 real images are fewer than the 64 features" in caplog.text


def test_clips_file_is_the_one_that_torch_fidelity_downloads() -> None:
    assert CLIP.source.address == MODEL_URLS["clip-vit-b-32"]
    assert CLIP.source.sha256 == MODEL_METADATA["clip-vit-b-32"]["hash"]
