"""The number mfu of the log."""

from pathlib import Path

import pytest
import torch

from ganscale.config.load import load
from ganscale.training import utilization
from ganscale.training.rehearsal import flop_per_image
from ganscale.training.utilization import Utilization

CONFIGS = Path(__file__).parents[2] / "configs"


def test_it_is_a_share_of_the_rate_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load(CONFIGS / "mnist_mlp.yaml")
    monkeypatch.setattr(utilization, "measure_matmul_rate", lambda device, dtype: 1e12)
    found = Utilization(experiment, torch.device("cpu"), 4)
    by_hand = 50_000 * flop_per_image(experiment) / (4 * 1e12)
    assert found.of(50_000) == pytest.approx(by_hand)
    assert found.of(100_000) == pytest.approx(2 * by_hand)


def test_both_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.dtype] = []
    monkeypatch.setattr(
        utilization, "measure_matmul_rate", lambda device, dtype: calls.append(dtype) or 1e12
    )
    experiment = load(CONFIGS / "mnist_dcgan_cpu.yaml")
    found = Utilization(experiment, torch.device("cpu"), 1)
    assert not calls
    found.of(1)
    found.of(2)
    assert calls == [torch.bfloat16]


def test_what_cannot_be_counted_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: torch.device, dtype: torch.dtype) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(utilization, "measure_matmul_rate", fail)
    found = Utilization(load(CONFIGS / "mnist_mlp.yaml"), torch.device("cpu"), 1)
    assert found.of(1.0) is None
