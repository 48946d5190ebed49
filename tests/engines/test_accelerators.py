from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from ganscale.engines import accelerators
from ganscale.engines.accelerators import make_accelerators
from ganscale.errors import GanscaleError
from ganscale.monitoring.progress import set_up_logging
from tests.conftest import tiny
from tests.system.processes import ROOT


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a CUDA device")
def test_what_a_cpu_cannot_do_is_refused(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GanscaleError, match=r"train\.sync_batch_norm=true needs GPUs"):
        make_accelerators(tiny(digits, tmp_path, "train.sync_batch_norm=true"))
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    file = ROOT / "configs" / "deepspeed" / "zero1.json"
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(file))
    with pytest.raises(GanscaleError, match="fp16: DeepSpeed scales losses on GPUs only"):
        make_accelerators(tiny(digits, tmp_path, "train.precision=fp16"))


@pytest.mark.parametrize(
    ("asked", "precision", "warned"),
    [("bf16", "fp32", True), ("bf16", "bf16", False), ("no", "bf16", False), (None, "fp32", False)],
)
def test_another_precision_of_the_launcher_is_said_not_to_count(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: str | None,
    precision: str,
    warned: bool,
) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    if asked is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", asked)
    set_up_logging(rank=0)
    make_accelerators(tiny(digits, tmp_path, f"train.precision={precision}"))
    said = "mixed_precision=bf16 and the experiment for train.precision=fp32"
    assert (said in capsys.readouterr().err) == warned
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(
    ("precision", "offload", "message"),
    [
        ("fp16", "false", "fp16 does not go with FSDP; use bf16"),
        ("fp32", "true", "fsdp_offload_params: true; only moments"),
    ],
)
def test_what_fsdp_cannot_do_is_refused(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    offload: str,
    message: str,
) -> None:
    monkeypatch.setenv(accelerators.USE_FSDP, "true")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", offload)
    with pytest.raises(GanscaleError, match=message):
        make_accelerators(tiny(digits, tmp_path, f"train.precision={precision}"))


def test_fsdp_of_one_process_is_a_single_process(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(accelerators.USE_FSDP, "true")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert make_accelerators(tiny(digits, tmp_path)).engine == "single process"
