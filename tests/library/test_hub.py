"""Up to the hub and down again, against a server that speaks its API, in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganscale.library.generator import Generator
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


def started(
    hub: Hub, home: Path, line: list[str], token: str | None = TOKEN
) -> subprocess.CompletedProcess[str]:
    """Start Python with these arguments, for a user of that hub."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    environment.pop("HF_TOKEN", None)
    if token is not None:
        environment["HF_TOKEN"] = token
    return subprocess.run(
        [sys.executable, *line], env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_pushed_generator_is_loaded_by_its_name(hub: Hub, run: Path, tmp_path: Path) -> None:
    done = started(hub, tmp_path, ["-m", "ganscale", "push", str(run), NAME])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.address}/{NAME}"
    assert TOKEN not in done.stdout + done.stderr
    files = hub.models[NAME]
    wanted = {"README.md", "config.json", "model.safetensors", "graph.json", "samples.png"}
    assert wanted <= set(files)
    assert b"Generator.from_pretrained" in files["README.md"]
    loaded = started(hub, tmp_path, ["-c", LOAD, NAME], token=None)
    assert loaded.returncode == 0, loaded.stderr
    wanted_sum = Generator.from_run(run, device="cpu").sample(3, seed=2).sum().item()
    assert abs(int(loaded.stdout) - wanted_sum) < 3 * 28 * 28


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_without_the_right_token_it_says_what_to_do(
    hub: Hub, run: Path, tmp_path: Path, token: str | None
) -> None:
    done = started(hub, tmp_path, ["-m", "ganscale", "push", str(run), NAME], token)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"the Hugging Face Hub does not take {NAME}" in done.stderr
    assert "HF_TOKEN" in done.stderr
    assert "hf_wrong" not in done.stderr
    assert not hub.models


def test_a_name_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    done = started(hub, tmp_path, ["-c", LOAD, "someone/else"], token=None)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "someone/else is no folder, and the Hugging Face Hub does not give it" in last
