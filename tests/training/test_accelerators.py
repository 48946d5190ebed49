from pathlib import Path

import pytest
import torch

from ganscale.errors import GanscaleError
from ganscale.training import accelerators
from ganscale.training.accelerators import make_accelerators
from tests.conftest import tiny


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a CUDA device")
def test_what_a_cpu_cannot_do_is_refused(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GanscaleError, match=r"train\.sync_batch_norm=true needs GPUs"):
        make_accelerators(tiny(digits, tmp_path, "train.sync_batch_norm=true"))
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(GanscaleError, match="fp16: DeepSpeed scales losses on GPUs only"):
        make_accelerators(tiny(digits, tmp_path, "train.precision=fp16"))


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
    monkeypatch.setattr(accelerators, "_check_device", lambda experiment: None)
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", offload)
    with pytest.raises(GanscaleError, match=message):
        make_accelerators(tiny(digits, tmp_path, f"train.precision={precision}"))


def test_fsdp_of_one_process_is_a_single_process(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(accelerators.USE_FSDP, "true")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert make_accelerators(tiny(digits, tmp_path)).engine == "single process"
