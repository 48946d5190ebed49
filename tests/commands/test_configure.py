"""`ganscale configure` writes an experiment that loads, says why, and trains."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganscale.cli import main
from ganscale.config.load import load
from ganscale.data.packing.file_sources import folder_source
from ganscale.data.survey import survey
from ganscale.monitoring.progress import counted
from ganscale.training import recipe, step_time
from ganscale.training.recipe_file import Machine, compose, name_of


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(step_time, "AT_LEAST_S", 0.0)
    folder = tmp_path / "my photos"
    folder.mkdir()
    for i in range(8):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "broken.jpg").write_text("no image")
    return folder


def test_the_written_experiment_says_why_and_trains(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["configure", "my photos"]) == 0
    shown = capsys.readouterr().out
    assert "broken.jpg" in shown
    assert shown.endswith("next: ganscale train my-photos.yaml\n")
    experiment = load("my-photos.yaml")
    assert (experiment.name, experiment.data.path) == ("my-photos", "my photos")
    assert experiment.image_shape == (3, 32, 40)
    assert experiment.data.on_error == "skip"
    assert experiment.augment.policy == ("color", "translation", "cutout")
    text = Path("my-photos.yaml").read_text()
    assert "of 9 images, 1 cannot be read" in text
    assert "a step), without evaluation" in " ".join(text.replace("#", " ").split())
    overrides = ["train.steps=1", "evaluation.every=null", "data.cache=cache"]
    small = ["generator.network.width=4", "discriminator.network.width=4"]
    quiet = ["monitoring.wandb=disabled", "monitoring.trackers=[wandb]"]
    assert main(["train", "my-photos.yaml", *overrides, *small, *quiet]) == 0
    assert main(["configure", "my photos"]) == 1
    assert "my-photos.yaml exists and is not overwritten" in capsys.readouterr().err


def test_what_cannot_be_configured_is_named(
    photos: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["configure", str(digits)]) == 1
    assert "not a folder, zip or tar of image files" in capsys.readouterr().err
    for other in ("hf://datasets/user/name", "rows.parquet"):
        Path("rows.parquet").touch()
        assert main(["configure", other]) == 1
        assert f"folder_dcgan64.yaml data.path={other}" in capsys.readouterr().err
    for file in photos.glob("*.png"):
        file.unlink()
    assert main(["configure", "my photos"]) == 1
    assert "none of its 1 images can be read" in capsys.readouterr().err
    assert not Path("my-photos.yaml").exists()


def test_only_a_conditional_gan_balances_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without classes, balance would show the two images of the small folder in half of all."""
    for name, number in (("many", 24), ("few", 2)):
        (tmp_path / name).mkdir()
        for i in range(number):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / name / f"{i}.png")
    found = survey(folder_source(tmp_path), counted)
    assert "balance_classes" not in compose("x", found, Machine("CPU")).values["data"]
    monkeypatch.setattr(recipe, "LEAST_OF_CLASS", 2)
    data = compose("x", found, Machine("CPU")).values["data"]
    assert (data["classes"], data["balance_classes"]) == (2, True)


def test_names_of_runs() -> None:
    assert name_of("photos/") == "photos"
    assert name_of("/tmp/Ünder 21.tar.gz") == "nder-21"
    assert name_of("/tmp/…") == "images"
    assert not Machine("CPU").gpu
