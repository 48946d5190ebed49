from pathlib import Path

import pytest

from ganscale.cli import main
from ganscale.config import Experiment
from ganscale.config.explain import explain
from ganscale.config.inline import inline_yaml
from ganscale.config.keys import sections
from ganscale.config.mistakes import flatten
from ganscale.config.reference import reference
from tests.system.processes import ROOT

CONFIGS = ROOT / "configs"


def test_the_page_of_all_keys_is_up_to_date() -> None:
    assert (ROOT / "docs" / "config.md").read_text() == reference(), (
        "renew it: ganscale config --reference > docs/config.md"
    )


def test_every_key_says_what_it_means() -> None:
    keys = [(section.title, key) for section in sections() for key in section.keys]
    assert not [(title, key.name) for title, key in keys if not (key.meaning or key.is_tag)]


def test_every_key_of_an_experiment_is_in_a_table_with_its_default() -> None:
    listed = {
        (f"{place}.{key.name}".removeprefix("."), key.default)
        for section in sections()
        for place in section.places
        for key in section.keys
    }
    assert ("objective.penalties.N.weight", "required") in listed
    for key, value in flatten(Experiment.model_validate({}).model_dump(mode="json")):
        assert (key, "empty" if value is None else inline_yaml(value)) in listed


def test_a_key_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {batch_size: 7}\n")
    (tmp_path / "grid.yaml").write_text("grid: {train.batch_size: [8, 16]}\n")
    (tmp_path / "b.yaml").write_text("train: {steps: 7}\n")
    assert explain("train.batch_size", tmp_path).splitlines() == [
        "train.batch_size",
        "  Images in one update, over all processes together.",
        "  takes: whole number > 0",
        "  default: 128",
        f"  {tmp_path / 'a.yaml'} sets it to 7",
        f"  {tmp_path / 'grid.yaml'} sets it to [8, 16]",
    ]


def test_a_section_lists_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = explain("checkpoint", Path("configs"))
    assert "When the run is saved" in text
    assert "    every: Steps between checkpoints." in text
    assert "    keep: Number of recent checkpoints to keep" in text
    penalties = explain("objective.penalties", Path("configs"))
    assert "takes: list of sections" in penalties
    assert "configs/cifar10_wgan_gp.yaml sets it to [{kind: wgan_gp" in penalties


def test_what_several_architectures_have_is_explained_for_each() -> None:
    text = explain("generator.network.width", CONFIGS)
    for architecture, default in (("dcgan", 64), ("resnet", 256)):
        _, _, about = text.partition(f"with architecture: {architecture}:\n")
        assert about.splitlines()[2] == f"  default: {default}"
    assert "architecture: mlp" not in text
    names = explain("generator.network.architecture", CONFIGS)
    assert "  `mlp`: A multilayer perceptron" in names
    assert "configs/mnist_dcgan.yaml sets it to dcgan" in names


def test_what_is_registered_is_named_with_its_docstring() -> None:
    hinge = "`hinge`: The hinge loss (Lim & Ye 2017"
    assert f"\n    {hinge}" in explain("objective.loss", CONFIGS)
    assert f"\n- {hinge}" in reference()
    flip = "`flip`: Mirror horizontally"
    assert f"\n    {flip}" in explain("augment.policy", CONFIGS)
    kinds = explain("objective.penalties.0.kind", CONFIGS)
    assert "\n    `r1`: ½E‖∇D(x)‖² at real images" in kinds


def test_an_item_of_a_list() -> None:
    for key in ("objective.penalties.0.weight", "objective.penalties.N.weight"):
        text = explain(key, CONFIGS)
        assert "gamma" in text
        assert "configs/cifar10_wgan_gp.yaml sets it to 10" in text
    assert "sets it" not in explain("objective.penalties.7.weight", CONFIGS)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("train.stepz", "did you mean train.steps?"),
        ("batch_size", "did you mean train.batch_size"),
        ("objective.penalties.0.wieght", "did you mean objective.penalties.0.weight?"),
        ("generator.network.widht", "did you mean generator.network.width?"),
        ("checkpoint.zzz", "known here: checkpoint.every, checkpoint.keep"),
    ],
)
def test_an_unknown_key_gets_a_hint(
    key: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "--explain", key]) == 1
    assert capsys.readouterr().err.startswith(f"ganscale: error: {key}: unknown key; {hint}")


def test_the_command_prints_both(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["config", "--explain", "train.steps"]) == 0
    assert "\n  configs/mnist_mlp.yaml sets it to " in capsys.readouterr().out
    assert main(["config", "--reference"]) == 0
    assert capsys.readouterr().out == reference()
