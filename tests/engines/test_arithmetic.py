"""What the bits of a run depend on, besides its experiment."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from ganscale.config import Experiment
from ganscale.engines.arithmetic import Arithmetic, set_up_arithmetic
from ganscale.errors import GanscaleError
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.comparing import same_checkpoint
from tests.conftest import tiny


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


class Putting(nn.Module):
    """A discriminator with an operation that torch has no deterministic form of."""

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()
        self.logit = nn.Linear(784, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.logit(images.flatten(1)).squeeze(1)
        torch.zeros(2).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)
        return logits


def test_the_option_is_what_torch_is_told(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    for asked in (True, False):  # from the opposite each time
        set_up_arithmetic(tiny(digits, tmp_path, f"train.deterministic={asked}").train)
        assert torch.are_deterministic_algorithms_enabled() == asked
        assert torch.backends.cudnn.benchmark != asked
        if asked:
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_layer_without_a_deterministic_form_ends_in_a_message(
    digits: Path, tmp_path: Path
) -> None:
    values = tiny(digits, tmp_path, "train.deterministic=true").model_dump()
    values["discriminator"]["network"] = {"architecture": f"{__file__}:Putting"}
    with pytest.raises(GanscaleError, match=r"train\.deterministic=true: put_.*set it to false"):
        train(Experiment.model_validate(values))


def test_a_deterministic_run_is_the_same_run(digits: Path, tmp_path: Path) -> None:
    ends = []
    for name, asked in (("one", True), ("two", True)):
        experiment = tiny(digits, tmp_path, f"name={name}", f"train.deterministic={asked}")
        train(experiment)
        ends.append(RunFolder.of(experiment).checkpoints / "step-00000010")
    same_checkpoint(*ends)


def test_a_resume_on_other_machinery_is_said(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny(digits, tmp_path, "train.steps=3"))
    folder = RunFolder.of(tiny(digits, tmp_path)).checkpoints
    written = checkpoint.read_state(checkpoint.list_finished(folder)[-1]).arithmetic
    options = tiny(digits, tmp_path).train
    assert written == Arithmetic.of(torch.device("cpu"), 1, "single process", options)
    train(tiny(digits, tmp_path, "train.steps=4"))
    assert "resuming on other machinery" not in capsys.readouterr().err
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        train(tiny(digits, tmp_path, "train.steps=5", "train.accumulation=2"))
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().err
    changes = f"(threads {threads} → {threads + 1}, accumulation 1 → 2)"
    assert f"resuming on other machinery {changes}" in said


def test_another_engine_is_said_and_what_an_old_checkpoint_lacks_is_not(
    caplog: pytest.LogCaptureFixture, digits: Path, tmp_path: Path
) -> None:
    now = Arithmetic.of(torch.device("cpu"), 4, "FSDP2", tiny(digits, tmp_path).train)
    old = now.model_dump(exclude={"engine", "accumulation", "deterministic", "compiled"})
    with caplog.at_level(logging.INFO, "ganscale"):
        now.warn_of_change(None)
        now.warn_of_change(Arithmetic.model_validate(old))
        assert not caplog.text
        now.warn_of_change(now.model_copy(update={"engine": "DDP"}))
    assert "(engine DDP → FSDP2)" in caplog.text
