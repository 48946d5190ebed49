"""Up to the hub and down again, against a server that speaks its API."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard, constants

from ganscale.cli import main
from ganscale.config import InitFrom
from ganscale.errors import GanscaleError
from ganscale.library.generator import Generator
from ganscale.runs import checkpoint
from ganscale.runs import hub as client
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.source import read_source
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.library.hub_server import TOKEN, Hub, serving

NAME = "someone/digits"
LOAD = """
import sys
from ganscale import Generator
print(Generator.from_pretrained(sys.argv[1], device="cpu").sample(3, seed=2).sum().item())
"""


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = tiny(digits, tmp_path_factory.mktemp("hub"), "train.steps=2")
    train(experiment)
    return experiment.folder


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def here(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """The hub of this process, whose client does not wait between its attempts."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def started(hub: Hub, home: Path, line: list[str]) -> subprocess.CompletedProcess[str]:
    """Start Python with these arguments, for a user of that hub."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_TOKEN": TOKEN,
    }
    return subprocess.run(
        [sys.executable, *line], env=environment, capture_output=True, text=True, timeout=120
    )


def push(run: Path, *options: str) -> int:
    return main(["push", str(run), NAME, *options])


def card_of(hub: Hub) -> ModelCard:
    return ModelCard(hub.models[NAME]["README.md"].decode())


def test_a_pushed_generator_is_loaded_by_its_name(hub: Hub, run: Path, tmp_path: Path) -> None:
    done = started(hub, tmp_path, ["-m", "ganscale", "push", str(run), NAME])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.address}/{NAME}"
    assert TOKEN not in done.stdout + done.stderr
    files = hub.models[NAME]
    wanted = {"README.md", "config.json", "model.safetensors", "graph.json", "samples.png"}
    assert wanted <= set(files)
    assert f'Generator.from_pretrained("{NAME}")' in files["README.md"].decode()
    loaded = started(hub, tmp_path, ["-c", LOAD, NAME])
    assert loaded.returncode == 0, loaded.stderr
    wanted_sum = Generator.from_run(run, device="cpu").sample(3, seed=2).sum().item()
    assert abs(int(loaded.stdout) - wanted_sum) < 3 * 28 * 28


def test_pushed_again_it_is_updated(here: Hub, run: Path) -> None:
    assert push(run, "--license", "MIT") == 0
    assert card_of(here).data.license == "mit"
    evaluation = {"features": "classifier features", "samples": 9, "real_samples": 8}
    line = {"step": 2, "values": {"fid": 3.5}, **evaluation, "real_set": "scikit-learn digits"}
    RunFolder(run).evaluations.write_text(json.dumps(line) + "\n")
    assert push(run) == 0
    data = card_of(here).data
    assert data.license is None
    assert [result.metric_value for result in data.eval_results or []] == [3.5]


def test_a_card_that_is_there_outlives_a_generator_without_its_run(here: Hub, run: Path) -> None:
    generator = Generator.from_run(run, device="cpu")
    assert generator.push_to_hub(NAME) == f"{here.address}/{NAME}"
    assert card_of(here).data.library_name == "ganscale"
    here.models[NAME]["README.md"] = b"my own words"
    here.models[NAME]["model.safetensors"] = b"older"
    generator.push_to_hub(NAME)
    assert here.models[NAME]["README.md"] == b"my own words"
    assert here.models[NAME]["model.safetensors"] != b"older"


def test_private_is_not_claimed_of_what_everybody_reads(
    here: Hub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(run, "--private") == 0
    assert here.private == {NAME}
    assert push(run, "--private") == 0  # an update
    here.private.clear()
    before = dict(here.models[NAME])
    assert push(run, "--private", "--license", "mit") == 1
    assert "everybody may read it; make it private in its settings" in capsys.readouterr().err
    assert here.models[NAME] == before


REFUSALS = {
    "401": ("/api/repos/create", 401, "log in with `hf auth login`, or set HF_TOKEN"),
    "403": ("/commit/", 403, "use one with the role `write` for someone"),
    "404": ("/api/repos/create", 404, "it knows nobody called someone"),
    "412": ("/commit/", 412, "changed there at the same time: upload it again"),
    "429": ("/commit/", 429, "it answers 429"),
    "500": ("/api/repos/create", 500, "it answers 500"),
    "503": ("/preupload/", 503, "; try again later"),
    "418": ("/commit/", 418, "it answers 418"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_refused_upload_says_why_and_what_to_do(
    here: Hub, run: Path, capfd: pytest.CaptureFixture[str], what: str
) -> None:
    part, status, meaning = REFUSALS[what]
    here.answers[part] = status
    saved = Generator.from_run(run, device="cpu")
    with pytest.raises(GanscaleError) as refused:
        saved.push_to_hub(NAME, token=TOKEN)
    message = str(refused.value)
    assert message.startswith(f"{NAME} cannot be uploaded to the Hugging Face Hub: ")
    assert meaning in message
    assert (refused.value.exit_code == GanscaleError.TEMPORARY) == (status in client.LATER)
    assert "\n" not in message
    printed = capfd.readouterr()
    assert TOKEN not in message + printed.out + printed.err
    assert not here.models.get(NAME)


def test_a_token_that_the_server_says_back_is_not_printed(here: Hub, run: Path) -> None:
    error = OSError(f"no, Bearer {TOKEN}")
    with (
        pytest.raises(GanscaleError, match="no, Bearer …"),
        client._explained(huggingface_hub, "x", {}, None),
    ):
        raise error


def test_a_wrong_token_a_wrong_licence_and_a_wrong_name(
    here: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(run, "--license", "gpl-9") == 1
    assert 'README.md. - "license" must be one of [mit' in capsys.readouterr().err
    assert main(["push", str(run), "digits"]) == 1
    assert "'digits' cannot be the name of a model on the hub" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert push(run) == 1
    printed = capsys.readouterr().err
    assert "hf auth login" in printed
    assert "hf_wrong" not in printed
    with pytest.raises(SystemExit):
        push(run, "--license", "my licence")
    assert "argument --license: must be an identifier such as mit" in capsys.readouterr().err
    assert not here.models.get(NAME)


def test_a_hub_that_is_not_there(
    here: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert push(run) == GanscaleError.TEMPORARY
    assert "it cannot be reached" in capsys.readouterr().err
    with pytest.raises(GanscaleError, match="it cannot be reached") as refused:
        Generator.from_pretrained(NAME)
    assert refused.value.exit_code == GanscaleError.TEMPORARY


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_model_that_the_hub_does_not_give(here: Hub, status: int) -> None:
    if status != 404:
        here.answers["/api/models"] = status
    with pytest.raises(GanscaleError) as refused:
        Generator.from_pretrained("someone/else")
    message = str(refused.value)
    assert message.startswith("someone/else is not a folder, and cannot be loaded from the")
    meaning = {401: "not logged in", 403: "may not read", 404: "no such model", 500: "answers 500"}
    assert meaning[status] in message
    assert TOKEN not in message


def test_a_name_that_no_model_has(here: Hub) -> None:
    with pytest.raises(GanscaleError, match="a//b is not a folder, and cannot be loaded"):
        Generator.from_pretrained("a//b")
    assert not here.asked


def test_a_run_starts_from_what_is_there(run: Path, here: Hub, tmp_path: Path) -> None:
    Generator.from_run(run, device="cpu").push_to_hub(NAME)
    source = read_source(InitFrom(source=NAME))
    assert source.name == NAME
    trained = checkpoint.read_weights(run / "checkpoints" / "step-00000002", "ema")
    found = source.parts["ema"]
    assert found.keys() == trained.keys()
    assert all(torch.equal(value, trained[name]) for name, value in found.items())
    with pytest.raises(GanscaleError, match=r"someone/else.* there is no such model"):
        read_source(InitFrom(source="someone/else"))
