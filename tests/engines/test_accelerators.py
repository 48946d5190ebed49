"""What is refused or said before the players exist."""

from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from ganscale.config import Experiment
from ganscale.engines.accelerators import Accelerators, make_accelerators
from ganscale.engines.launcher import FSDP2, Launcher, find_engine
from ganscale.errors import GanscaleError
from ganscale.monitoring.progress import set_up_logging
from tests.conftest import tiny


def made(experiment: Experiment, **environment: str) -> Accelerators:
    return make_accelerators(experiment, Launcher.from_environment(environment))


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a CUDA device")
def test_what_a_cpu_cannot_do_is_refused(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(GanscaleError, match=r"train\.sync_batch_norm=true needs GPUs"):
        made(tiny(digits, tmp_path, "train.sync_batch_norm=true"))
    half = tiny(digits, tmp_path, "train.precision=fp16")
    with pytest.raises(GanscaleError, match="fp16: DeepSpeed scales losses on GPUs only"):
        make_accelerators(half, Launcher(engine=find_engine("zero1")))


def test_what_fsdp_cannot_do_is_refused(digits: Path, tmp_path: Path) -> None:
    half = tiny(digits, tmp_path, "train.precision=fp16")
    with pytest.raises(GanscaleError, match="fp16 does not go with FSDP; use bf16"):
        make_accelerators(half, Launcher(world_size=2, engine=FSDP2))


@pytest.mark.parametrize("engine", ["fsdp2", "zero3"])
def test_a_compiled_loss_needs_whole_weights(digits: Path, tmp_path: Path, engine: str) -> None:
    experiment = tiny(digits, tmp_path, "train.compile=true")
    with pytest.raises(GanscaleError, match="cannot gather the weights"):
        make_accelerators(experiment, Launcher(world_size=2, engine=find_engine(engine)))


@pytest.mark.parametrize(
    ("asked", "precision", "warned"),
    [("bf16", "fp32", True), ("bf16", "bf16", False), ("no", "bf16", False), (None, "fp32", False)],
)
def test_another_precision_of_the_launcher_is_said_not_to_count(
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    asked: str | None,
    precision: str,
    warned: bool,
) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    set_up_logging(rank=0)
    given = {"ACCELERATE_MIXED_PRECISION": asked} if asked is not None else {}
    made(tiny(digits, tmp_path, f"train.precision={precision}"), **given)
    said = "mixed_precision=bf16 and the experiment for train.precision=fp32"
    assert (said in capsys.readouterr().err) == warned
    AcceleratorState._reset_state(reset_partial_state=True)


def test_processes_that_did_not_find_each_other_are_an_error(digits: Path, tmp_path: Path) -> None:
    """Each would train alone, on its part of every batch."""
    with pytest.raises(GanscaleError, match=r"WORLD_SIZE=4 in the environment, but .* found 0"):
        made(tiny(digits, tmp_path), WORLD_SIZE="4")
