"""The measured rate of matrix products."""

import time

import pytest
import torch

from ganscale.profiling import matmul_rate
from ganscale.profiling.matmul_rate import measure_matmul_rate


def test_it_is_the_rate_of_a_product_timed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matmul_rate.SIDES, "cpu", 256)
    found = measure_matmul_rate(torch.device("cpu"), torch.float32)
    a, best = torch.ones(256, 256), float("inf")
    for _ in range(200):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    assert found == pytest.approx(2 * 256**3 / best, rel=0.7)


def test_it_draws_no_random_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matmul_rate.SIDES, "cpu", 64)
    before = torch.random.get_rng_state()
    measure_matmul_rate(torch.device("cpu"), torch.float32)
    assert torch.equal(torch.random.get_rng_state(), before)
