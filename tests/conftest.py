"""Small real data for every test: the handwritten digits inside scikit-learn."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.data.packing.named_sources import digits_source
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.evaluation.features import trained
from tests.system.warm_process import ADDRESS

torch.set_num_threads(1)  # xdist runs a test on each core
SLOWEST = (
    "test_slurm.py",
    "test_slurm_signals.py",
    "test_engines.py",
    "test_fuzz.py",
    "test_resume.py",
    "test_command_line.py",
    "test_slurm_arrays.py",
    "test_processes.py",
    "test_examples.py",
    "test_reference.py",
    "test_readme.py",
    "test_compiled_start.py",
    "test_signals.py",
    "test_evaluator.py",
)
"""The files that take a minute or more, the longest first: they begin before all others."""


def pytest_configure(config: pytest.Config) -> None:
    """Name the socket of the session's warm server; a worker of xdist inherits the name."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="ganscale-tests-")
        os.environ[ADDRESS] = str(Path(folder, str(os.getpid())))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let the server end, if it was started: it does when its socket has gone."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(Path(os.environ[ADDRESS]).parent, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest files first, so that no worker is left alone with one of them at the end."""
    place = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(SLOWEST)))


@pytest.fixture(autouse=True)
def short_classifier_training(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digits of the tests are learnt in a third of the steps that an unknown set may need.

    Processes that a test starts know nothing of it, and may be compared with the test's own.
    """
    if "system" not in request.path.parts:
        monkeypatch.setattr(trained, "MIN_STEPS", 100)


@pytest.fixture(scope="session", autouse=True)
def notes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is noted of the tests' own runs goes into no user's folder."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def untouched_log() -> None:
    """A run, in a fixture too, sets up logging for its process; `caplog` wants it untouched."""
    log = logging.getLogger("ganscale")
    log.setLevel(logging.NOTSET)
    log.propagate = True
    log.handlers.clear()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed set of 1,797 digits of 28×28 in five shards."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    pack(digits_source(), folder, Packing(size=28, samples_per_shard=400), 1, lambda *_: None)
    return folder


@pytest.fixture
def experiment(digits: Path, tmp_path: Path) -> Experiment:
    """The textbook GAN, made tiny, that trains for ten steps in `tmp_path`."""
    return tiny(digits, tmp_path)


def tiny(digits: Path, folder: Path, *overrides: str) -> Experiment:
    """An experiment that runs within a second."""
    return load(
        None,
        [
            "name=tiny",
            f"runs={folder / 'runs'}",
            f"data.path={digits}",
            "generator.network.hidden=[16]",
            "discriminator.network.hidden=[16]",
            "train.steps=10",
            "train.batch_size=8",
            "monitoring.wandb=disabled",
            "monitoring.trackers=[wandb]",
            "monitoring.log_every=1",
            *overrides,
        ],
    )
