"""What is exported is loaded again by its own library and makes the same images."""

from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.errors import GanscaleError
from ganscale.networks import first_generator
from ganscale.runs.export import export
from ganscale.runs.sampler import Sampler
from ganscale.training.trainer import train
from tests.conftest import tiny

Inputs = tuple[Tensor, ...]


def from_safetensors(path: Path, inputs: Inputs) -> Tensor:
    generator = first_generator(load(path.parent / "experiment.yaml"))
    generator.load_state_dict(load_file(path))
    images: Tensor = generator.eval()(*inputs)
    return images


def from_torch_export(path: Path, inputs: Inputs) -> Tensor:
    images: Tensor = torch.export.load(path).module()(*inputs)
    return images


def from_onnx(path: Path, inputs: Inputs) -> Tensor:
    session = onnxruntime.InferenceSession(path)
    names = [i.name for i in session.get_inputs()]
    (images,) = session.run(None, {n: i.numpy() for n, i in zip(names, inputs, strict=True)})
    return torch.from_numpy(images)


FORMATS: dict[str, Callable[[Path, Inputs], Tensor]] = {
    "safetensors": from_safetensors,
    "torch.export": from_torch_export,
    "onnx": from_onnx,
}


@pytest.fixture(scope="module", params=[False, True], ids=["mlp", "conditional dcgan"])
def run(
    request: pytest.FixtureRequest, digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    values = tiny(digits, folder, "train.steps=2").model_dump(mode="json")
    if request.param:
        values["data"]["classes"] = 10
        for player in ("generator", "discriminator"):
            values[player]["network"] = {"architecture": "dcgan", "width": 4}
    experiment = Experiment.model_validate(values)
    train(experiment)
    return experiment.folder


@pytest.mark.parametrize("kind", FORMATS)
def test_an_exported_generator_is_the_original(
    run: Path, tmp_path: Path, kind: str, recwarn: pytest.WarningsRecorder
) -> None:
    path = export(run, "latest", kind, tmp_path / "out")
    assert not [warning for warning in recwarn if "axis name" in str(warning.message)]
    sampler = Sampler(run, "latest")
    inputs: Inputs = (torch.randn(7, sampler.experiment.latent.dim), *sampler.labels(range(7)))
    with torch.no_grad():
        original = sampler.generator.cpu()(*inputs)
        assert torch.allclose(FORMATS[kind](path, inputs), original, atol=1e-5)
    card = (tmp_path / "out" / "README.md").read_text()
    for said in (path.name, "latents (N, 100)", "not evaluated", "| Steps | 2 |", "samples.png"):
        assert said in card
    assert ("labels" in card) == (sampler.classes is not None)


@pytest.mark.parametrize("kind", [*FORMATS, "pretrained"])
def test_the_cards_own_lines_run(
    run: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(run, "latest", kind, tmp_path / "out")
    code = (tmp_path / "out" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path / "out")
    scope: dict[str, object] = {}
    exec(code, scope)
    assert scope["images"].shape == (16, 1, 28, 28)  # type: ignore[attr-defined]


def test_whoever_may_read_a_new_file_may_read_weights(run: Path, tmp_path: Path) -> None:
    """safetensors closes its files to all but their owner, whatever the umask."""
    (tmp_path / "new").touch()
    files = [export(run, "latest", k, tmp_path / k) for k in ("safetensors", "pretrained")]
    files += run.rglob("*.safetensors")
    assert {file.stat().st_mode for file in files} == {(tmp_path / "new").stat().st_mode}


def test_a_folder_with_something_in_it_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(GanscaleError, match="not empty"):
        export(run, "latest", "safetensors", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]
