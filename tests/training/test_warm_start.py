"""Runs that start from other weights, in this process, on a tiny game."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ganscale.config import Experiment, InitFrom
from ganscale.data.reading.batch_source import BatchSource
from ganscale.data.shards.manifest import Manifest
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from ganscale.networks import first_discriminator, first_generator
from ganscale.runs import checkpoint
from ganscale.runs.export import export
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.source import read_source, sha256_of_weights
from ganscale.training.trainer import train
from ganscale.training.warm_start import take
from tests.comparing import metrics, same_checkpoint
from tests.conftest import tiny

PARTS = checkpoint.PARTS
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def source(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten steps, evaluated and kept at two."""
    folder = tmp_path_factory.mktemp("source")
    train(tiny(digits, folder, "name=base", "checkpoint.every=4"))
    return folder / "runs" / "base"


def weights_of(experiment: Experiment, step: int) -> dict[str, Weights]:
    path = RunFolder.of(experiment).checkpoints / f"step-{step:08d}"
    return {part: checkpoint.read_weights(path, part) for part in PARTS}


def weights_in(run: Path, name: str) -> dict[str, Weights]:
    path = run / "checkpoints" / name
    return {part: checkpoint.read_weights(path, part) for part in PARTS}


def assert_same(ours: Weights, theirs: Weights) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def seeds_weights(experiment: Experiment) -> dict[str, Weights]:
    return {
        "generator": dict(first_generator(experiment).state_dict()),
        "discriminator": dict(first_discriminator(experiment).state_dict()),
    }


@pytest.mark.parametrize("name", ["latest", "4"])
def test_a_run_starts_from_another_ones_players_and_average(
    source: Path, digits: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = f"init_from={{source: {source}, checkpoint: '{name}'}}"
    experiment = tiny(digits, tmp_path, asked, "seed=3", "train.steps=2")
    train(experiment)
    there = weights_in(source, "step-00000010" if name == "latest" else "step-00000004")
    first = weights_of(experiment, 0)
    for part in PARTS:
        assert_same(first[part], there[part])
    assert not torch.equal(first["ema"]["layers.0.weight"], first["generator"]["layers.0.weight"])
    assert [line["step"] for line in metrics(experiment)] == [1, 2]
    # Adam starts afresh: as often stepped as the run has steps.
    state = checkpoint.read_training(RunFolder.of(experiment).checkpoints / "step-00000002")
    assert float(state["generator"]["optimizer"]["state"][0]["step"]) == 2
    said = capsys.readouterr().err
    assert f"starting from {source}/checkpoints/step-" in said
    assert "generator: 4 of 4 tensors taken, with 14,944 of 14,944 parameters (100.0%)" in said
    assert "discriminator: 4 of 4 tensors taken" in said
    noted = RunFolder.of(experiment).first_weights()
    assert noted is not None
    assert noted["source"] == str(source)
    assert noted["source_sha256"] == sha256_of_weights(there)
    assert noted["first_weights_sha256"] == sha256_of_weights(first)
    assert sorted(noted["taken"]["generator"]["whole"]) == sorted(there["generator"])


def test_a_resumed_run_needs_its_source_no_more(source: Path, digits: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(source, base)
    asked = f"init_from.source={base}"
    whole = tiny(digits, tmp_path, "name=whole", asked)
    train(whole)
    half = ("name=half", asked)
    train(tiny(digits, tmp_path, *half, "train.steps=4"))
    shutil.rmtree(base)
    train(tiny(digits, tmp_path, *half))
    folders = [RunFolder(tmp_path / "runs" / name).checkpoints for name in ("whole", "half")]
    same_checkpoint(*(folder / "step-00000010" for folder in folders))
    # Nor does one that was killed at once: its first checkpoint is that of step 0.
    killed = RunFolder(tmp_path / "runs" / "half")
    for path in checkpoint.list_finished(killed.checkpoints)[1:]:
        shutil.rmtree(path)
    train(tiny(digits, tmp_path, *half))
    same_checkpoint(*(folder / "step-00000010" for folder in folders))


def test_a_start_from_changed_weights_says_so(
    source: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(source, base)
    experiment = tiny(digits, tmp_path, f"init_from.source={base}", "train.steps=1")
    train(experiment)
    folder = RunFolder.of(experiment)
    shutil.rmtree(folder.checkpoints)
    capsys.readouterr()
    train(experiment)
    assert "started before" not in capsys.readouterr().err
    shutil.rmtree(folder.checkpoints)
    shutil.rmtree(base / "checkpoints" / "step-00000010")
    train(experiment)
    said = capsys.readouterr().err
    assert "this run has started before, from other weights" in said
    assert sha256_of_weights(weights_in(source, "step-00000010")) in said
    assert sha256_of_weights(weights_in(source, "step-00000008")) in said


def test_the_source_is_part_of_the_experiment(source: Path, digits: Path, tmp_path: Path) -> None:
    train(tiny(digits, tmp_path, f"init_from.source={source}", "train.steps=1"))
    with pytest.raises(GanscaleError, match="init_from"):
        train(tiny(digits, tmp_path, "train.steps=2"))


def test_an_exported_generator_is_the_average_and_the_generator(
    source: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = export(source, "latest", "safetensors", tmp_path / "export")
    experiment = tiny(digits, tmp_path, f"init_from.source={file}", "train.steps=1", "seed=5")
    train(experiment)
    there, first = weights_in(source, "step-00000010"), weights_of(experiment, 0)
    assert_same(first["generator"], there["ema"])
    assert_same(first["ema"], there["ema"])
    assert_same(first["discriminator"], seeds_weights(experiment)["discriminator"])
    said = capsys.readouterr().err
    assert "discriminator: the source has none; it starts with the seed's weights" in said


def test_a_file_may_hold_either_player_or_both(source: Path, digits: Path, tmp_path: Path) -> None:
    there = weights_in(source, "step-00000010")
    both = {
        f"{part}.{name}": value
        for part in ("generator", "discriminator")
        for name, value in there[part].items()
    }
    for name, tensors, parts in (
        (
            "both",
            both,
            {"generator": "generator", "ema": "generator", "discriminator": "discriminator"},
        ),
        ("lone-d", there["discriminator"], {"discriminator": "discriminator"}),
        ("lone-g", there["generator"], {"generator": "generator", "ema": "generator"}),
    ):
        file = tmp_path / f"{name}.safetensors"
        save_file(tensors, file)
        experiment = tiny(digits, tmp_path, "seed=7")
        first = take(experiment, read_source(InitFrom(source=str(file)))).weights
        own = seeds_weights(experiment)
        for part in PARTS:
            expected = there[parts[part]] if part in parts else own.get(part, own["generator"])
            assert_same(first[part], expected)


def test_nothing_that_fits_is_one_error(source: Path, digits: Path, tmp_path: Path) -> None:
    wide = ("generator.network.hidden=[]", "discriminator.network.hidden=[]")
    experiment = tiny(digits, tmp_path, f"init_from.source={source}", *wide)
    with pytest.raises(GanscaleError) as raised:
        train(experiment)
    said = str(raised.value)
    assert f"nothing in {source}/checkpoints/step-00000010 fits" in said
    assert "generator: 0 of 2 tensors taken" in said
    assert "[784, 100] here, [16, 100] in the source" in said
    assert not checkpoint.list_finished(RunFolder.of(experiment).checkpoints)


def test_frozen_layers_have_to_come_from_the_source(
    source: Path, digits: Path, tmp_path: Path
) -> None:
    with pytest.raises(GanscaleError, match=r"discriminator\.freeze=1 would keep .*set init_from"):
        tiny(digits, tmp_path, "discriminator.freeze=1")
    weights = weights_in(source, "step-00000010")
    file = tmp_path / "generator.safetensors"
    save_file(weights["generator"], file)
    asked = (f"init_from.source={file}", "discriminator.freeze=1")
    with pytest.raises(GanscaleError, match=r"nothing that fits layers\.1\.weight and 1 others"):
        take(tiny(digits, tmp_path, *asked), read_source(InitFrom(source=str(file))))
    run = read_source(InitFrom(source=str(source)))
    narrow = tiny(digits, tmp_path, *asked, "discriminator.network.hidden=[8]")
    with pytest.raises(GanscaleError, match="frozen layers that nobody trained"):
        take(narrow, run)
    take(tiny(digits, tmp_path, *asked), run)


def test_what_has_to_be_unpickled_is_refused(digits: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"layers.0.weight": torch.ones(16, 100)}, file)
    for path, message in ((file, "is not a safetensors file"), (tmp_path / "nothing", "no such")):
        with pytest.raises(GanscaleError, match=message):
            train(tiny(digits, tmp_path, f"init_from.source={path}"))


def test_classes_continue_by_their_names(digits: Path, tmp_path: Path) -> None:
    conditional = ("data.classes=10", "train.steps=1")
    source = tiny(digits, tmp_path, "name=base", *conditional)
    train(source)
    renamed = tmp_path / "renamed"
    shutil.copytree(digits, renamed)
    rename_classes(renamed, ["3", "new", "1", *"abcdefg"])
    experiment = tiny(digits, tmp_path, f"data.path={renamed}", *conditional)
    names = BatchSource(experiment, Ranks(), range(8), torch.device("cpu")).class_names
    weights = take(experiment, read_source(InitFrom(source=str(source.folder))), names).weights
    there = weights_of(source, 1)["discriminator"]["projection.table.weight"]
    here = weights["discriminator"]["projection.table.weight"]
    mean = there.mean(0)
    expected = torch.stack([there[3], mean, there[1], *[mean] * 7])
    torch.testing.assert_close(here, expected)


def rename_classes(folder: Path, names: list[str]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text()) | {"classes": names, "checksum": ""}
    Manifest.model_validate(content).save(folder)


def test_a_checksum_of_weights_does_not_depend_on_their_file(source: Path, tmp_path: Path) -> None:
    weights = weights_in(source, "step-00000010")
    file = tmp_path / "all.safetensors"
    save_file({f"{p}.{n}": t for p, tensors in weights.items() for n, t in tensors.items()}, file)
    run, from_file = (read_source(InitFrom(source=str(s))) for s in (source, file))
    assert run.sha256() == from_file.sha256() == sha256_of_weights(weights)
    weights["ema"]["layers.0.bias"][3] += 1e-7
    assert sha256_of_weights(weights) != run.sha256()
