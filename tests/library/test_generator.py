"""A generator as a program uses it: from a run, from a folder, and without the trainer."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

import ganscale
from ganscale.config import Experiment, InitFrom
from ganscale.errors import GanscaleError
from ganscale.library.generator import Generator
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sampler import Sampler
from ganscale.runs.source import read_source
from ganscale.training.trainer import train
from ganscale.training.warm_start import take
from tests.conftest import tiny

DCGAN: dict[str, Any] = {"architecture": "dcgan", "width": 4}


@pytest.fixture(scope="module", params=[False, True], ids=["mlp", "conditional dcgan"])
def run(
    request: pytest.FixtureRequest, digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("library")
    values = tiny(digits, folder, "train.steps=2").model_dump(mode="json")
    if request.param:
        values["data"]["classes"] = 10
        values["generator"]["network"] = values["discriminator"]["network"] = DCGAN
    experiment = Experiment.model_validate(values)
    train(experiment)
    return experiment.folder


def test_its_samples_are_those_of_the_command(run: Path) -> None:
    generator = ganscale.Generator.from_run(run, "latest")
    images = generator.sample(7, seed=3, batch_size=4)
    wanted = Sampler(run, "latest", seed=3).images(7)
    assert repr(generator).startswith("<Generator tiny: images (1, 28, 28)")
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), wanted)


def test_a_saved_one_makes_the_same_images(run: Path, tmp_path: Path) -> None:
    generator = Generator.from_run(run, "latest")
    again = Generator.from_pretrained(generator.save_pretrained(tmp_path))
    assert again.about == generator.about
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("bits") == 8
    (tmp_path / "config.json").write_text(json.dumps(config))  # as earlier versions wrote it
    assert Generator.from_pretrained(tmp_path).about == generator.about
    wanted, found = (g.sample(5, seed=1).int() for g in (generator, again))
    assert (wanted - found).abs().max() <= 1
    assert wanted.float().std() > 0
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"config.json", "model.safetensors", "graph.json", "README.md"}
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("ganscale", "unconditional-image-generation")
    (tmp_path / "README.md").write_text("my own words")
    generator.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own words"


def test_a_run_may_start_from_a_saved_one(run: Path, tmp_path: Path) -> None:
    folder = Generator.from_run(run, "latest").save_pretrained(tmp_path)
    experiment = RunFolder(run).experiment().model_copy(update={"seed": 9})
    source = read_source(InitFrom(source=str(folder)))
    first = take(experiment, source).weights
    trained = checkpoint.read_weights(run / "checkpoints" / "step-00000002", "ema")
    for part in ("ema", "generator"):
        for name, tensor in first[part].items():
            counts = name.endswith("num_batches_tracked")  # no operation of the graph reads it
            assert counts or torch.equal(tensor, trained[name]), name
    assert source.classes == experiment.data.classes


def test_a_loaded_one_is_saved_again(run: Path, tmp_path: Path) -> None:
    Generator.from_run(run, "latest").save_pretrained(tmp_path / "first")
    first = Generator.from_pretrained(tmp_path / "first")
    second = Generator.from_pretrained(first.save_pretrained(tmp_path / "second"))
    assert torch.equal(first.sample(3), second.sample(3))


def test_it_is_found_by_its_seed_alone(run: Path) -> None:
    generator = Generator.from_run(run, "latest")
    few, many = generator.sample(3, seed=5), generator.sample(6, seed=5)
    assert torch.equal(few, many[:3])
    assert not torch.equal(few, generator.sample(3, seed=6))


def test_truncation_is_that_of_the_command(run: Path, tmp_path: Path) -> None:
    generator = Generator.from_run(run, "latest")
    before = generator.sample(3, seed=1)
    found = generator.sample(3, seed=1, truncation=0.5)
    wanted = Sampler(run, "latest", seed=1, truncation=0.5).images(3)
    assert np.array_equal(found.permute(0, 2, 3, 1).numpy(), wanted)
    assert not torch.equal(found, before)
    assert torch.equal(generator.sample(3, seed=1), before)
    assert generator.latents(9, truncation=0.5).abs().max() <= 0.5
    with pytest.raises(GanscaleError, match="truncation=0 must be a number above 0"):
        generator.sample(1, truncation=0)
    saved = Generator.from_pretrained(generator.save_pretrained(tmp_path), device=generator.device)
    if generator.about.classes:  # the DCGAN, which has BatchNorm
        with pytest.raises(GanscaleError, match=r"BatchNorm.* use Generator\.from_run"):
            saved.sample(1, truncation=0.5)
    else:
        again = saved.sample(3, seed=1, truncation=0.5)
        assert (again.int() - found.int()).abs().max() <= 1


def test_an_image_leads_back_to_its_latent(run: Path, tmp_path: Path) -> None:
    first = Generator.from_run(run, "latest")
    saved = Generator.from_pretrained(first.save_pretrained(tmp_path), device=first.device)
    wanted = first.sample(seeds=[3, 14])
    for generator in (first, saved):
        latents, labels = generator.project(wanted, seed=1, steps=80)
        error = (generator.images(latents, labels).float() - wanted.float()).square().mean().sqrt()
        before = (generator.sample(2, seed=9).float() - wanted.float()).square().mean().sqrt()
        assert error < before / 5
    with pytest.raises(GanscaleError, match=r"must be \(N, 1, 28, 28\)"):
        first.project(wanted[0])


def test_seeds_have_their_image_in_whatever_list(run: Path) -> None:
    generator = Generator.from_run(run, "latest")
    images = generator.sample(seeds=[3, 12, 7])
    assert (generator.sample(seeds=[7])[0].int() - images[2].int()).abs().max() <= 1
    for image, seed in zip(images, (3, 12, 7), strict=True):
        label = seed % 10 if generator.about.classes else None
        first = generator.sample(1, seed=seed, label=label)[0]
        assert (image.int() - first.int()).abs().max() <= 1
    with pytest.raises(GanscaleError, match="say how many samples of one seed, or which seeds"):
        generator.sample()


def test_a_mix_is_the_middle_of_the_way(run: Path) -> None:
    generator = Generator.from_run(run, "latest")
    mixed = generator.mix([1, 2], [3, 4, 5])
    assert mixed.shape == (2, 3, 1, 28, 28)
    for row, of_row in zip((1, 2), mixed, strict=True):
        for column, image in zip((3, 4, 5), of_row, strict=True):
            middle = generator.interpolate([row, column], steps=2)[1]
            assert (image.int() - middle.int()).abs().max() <= 1


def test_an_interpolation_begins_and_ends_at_its_seeds(run: Path) -> None:
    generator = Generator.from_run(run, "latest")
    path = generator.interpolate([1, 2, 3], steps=4)
    assert len(path) == 9
    label = 1 if generator.about.classes else None  # that of the first seed
    for frame, seed in zip(path[::4], (1, 2, 3), strict=True):
        end = generator.sample(1, seed=seed, label=label)[0]
        assert (frame.int() - end.int()).abs().max() <= 1
    assert not torch.equal(path[1], path[0])
    with pytest.raises(GanscaleError, match="two seeds or more"):
        generator.interpolate([1])


def test_a_class_that_it_does_not_know_is_refused(run: Path) -> None:
    generator = Generator.from_run(run, "latest")
    with pytest.raises(GanscaleError, match="cannot generate class 10: this generator knows"):
        generator.sample(1, label=10)
    if generator.about.classes:
        assert generator.sample(2, label=3).shape == (2, 1, 28, 28)


def test_a_diverged_one_is_refused(run: Path) -> None:
    generator = Generator.from_run(run, "latest")
    with torch.no_grad():
        next(generator.network.parameters()).fill_(torch.nan)
    with pytest.raises(GanscaleError, match="contain NaN or infinite values"):
        generator.sample(1)


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "graph.json"])
def test_a_damaged_folder_is_refused_in_a_sentence(run: Path, tmp_path: Path, damage: str) -> None:
    Generator.from_run(run, "latest").save_pretrained(tmp_path)
    (tmp_path / damage).write_bytes(b"{}")
    with pytest.raises(GanscaleError, match=rf"{tmp_path} is not a saved generator"):
        Generator.from_pretrained(tmp_path)
    (tmp_path / damage).unlink()
    with pytest.raises(GanscaleError, match=rf"{tmp_path} is not a saved generator"):
        Generator.from_pretrained(tmp_path)


BARE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
from ganscale import Generator
print(Generator.from_pretrained({folder!r}, device="cpu").sample(2, seed=4).sum().item())
"""


def test_it_needs_torch_and_safetensors_alone(run: Path, tmp_path: Path) -> None:
    generator = Generator.from_run(run, "latest")
    folder = generator.save_pretrained(tmp_path)
    project = Path(__file__).parents[2] / "pyproject.toml"
    names = project.read_text().split("dependencies = [")[1].split("]")[0].split('"')[1::2]
    needed = {name.partition(">")[0] for name in names} - {"torch", "safetensors"}
    imported = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
    refused = {imported.get(name, name) for name in needed}
    assert {"pydantic", "accelerate", "numpy", "omegaconf"} <= refused
    code = BARE.format(refused=refused, folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = Generator.from_pretrained(folder, device="cpu").sample(2, seed=4).sum().item()
    assert int(done.stdout) == wanted
