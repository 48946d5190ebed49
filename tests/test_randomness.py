from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ganscale import randomness
from ganscale.config import Latent
from ganscale.host_randomness import permutation
from ganscale.randomness import Draws

HOST = torch.device("cpu")
LATENT = Latent(dim=9)


@pytest.mark.parametrize("draw", [randomness.normal, randomness.uniform])
def test_rows_do_not_depend_on_who_draws_them(draw: Callable[..., Tensor]) -> None:
    whole = draw(1, "z", 5, range(64), (7,), HOST)
    for parts in (2, 4, 64):
        size = 64 // parts
        split = [
            draw(1, "z", 5, range(i * size, i * size + size), (7,), HOST) for i in range(parts)
        ]
        assert torch.equal(torch.cat(split), whole)


def test_seed_purpose_and_step_each_change_the_draw() -> None:
    base = randomness.uniform(1, "a", 2, range(4), (8,), HOST)
    for other in ((2, "a", 2), (1, "b", 2), (1, "a", 3)):
        assert not torch.equal(base, randomness.uniform(*other, range(4), (8,), HOST))
    assert torch.equal(base, randomness.uniform(1, "a", 2, range(4), (8,), HOST))


def test_the_streams_are_the_same_for_ever() -> None:
    """If one of the first two changes, so must STREAM_VERSION; the others must not change."""
    assert randomness.STREAM_VERSION == 2
    drawn = randomness.normal(0, "latent/generator", 3, range(1, 2), (4,), HOST)[0]
    assert torch.allclose(drawn, torch.tensor(FIRST_NORMAL), rtol=0, atol=1e-6)
    assert randomness.uniform(0, "u", 3, range(1, 2), (3,), HOST)[0].tolist() == FIRST_UNIFORM
    assert permutation(0, "order/shards", 0, 8).tolist() == FIRST_PERMUTATION
    assert randomness.torch_seed(0, "weights/generator") == FIRST_SEED


@pytest.mark.parametrize("step", [0, 1, 2**31 - 1])
def test_a_step_may_be_a_tensor(step: int) -> None:
    for draw in (randomness.uniform, randomness.normal):
        number = draw(7, "n", step, range(3, 8), (2, 3), HOST)
        assert torch.equal(number, draw(7, "n", torch.tensor(step), range(3, 8), (2, 3), HOST))


def draws_of_a_step(step: Tensor) -> tuple[Tensor, ...]:
    """Normal numbers, and small and large uniform draws."""
    rows, draws = range(2, 7), Draws(1, step, range(2, 7), HOST)
    return (
        randomness.latents(LATENT, 1, "g", step, rows, HOST),
        draws("penalty", (3, 8, 8)),
        *(draws("penalty", (1, 1, 1)) for _ in range(3)),
    )


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_function_draws_the_same_at_each_step(backend: str) -> None:
    torch.compiler.reset()
    torch.compiler.assume_constant_result(randomness.key_of)
    compiled: Any = torch.compile(draws_of_a_step, backend=backend, fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for step in (torch.tensor(0), torch.tensor(1), torch.tensor(40_000)):
            for found, wanted in zip(compiled(step), draws_of_a_step(step), strict=True):
                assert torch.equal(found, wanted)


def test_normal_and_uniform_are_what_they_say() -> None:
    normal = randomness.normal(3, "z", 0, range(2000), (25,), HOST)
    uniform = randomness.uniform(3, "u", 0, range(2000), (25,), HOST)
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(uniform.flatten().numpy(), "uniform").pvalue > 1e-3
    # Rows and columns that shared words of the stream would be correlated.
    for numbers in (normal, normal.square(), uniform):
        by_column = np.corrcoef(numbers.numpy().T) - np.eye(25)
        assert np.abs(by_column).max() < 0.11
        by_row = np.corrcoef(numbers[:-1].flatten(), numbers[1:].flatten())[0, 1]
        assert abs(by_row) < 0.022


def test_normal_numbers_are_the_transform_of_box_and_muller() -> None:
    """The first half of a row's words becomes radii, and the second half angles."""
    drawn = randomness.normal(3, "z", 4, range(5, 6), (5,), HOST)[0]
    starts = torch.tensor([4 * 2**32 + 5 * 2])
    bits = randomness.random_bits(randomness.key_of(3, "z"), starts, 6)[0].tolist()
    for i in range(3):
        radius = np.sqrt(-2 * np.log((bits[i] + 2**31 + 0.5) / 2**32))
        angle = 2 * np.pi * bits[3 + i] / 2**32
        assert float(drawn[i]) == np.float32(radius * np.cos(angle))
        if i < 2:
            assert float(drawn[3 + i]) == np.float32(radius * np.sin(angle))


def test_uniform_numbers_stay_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = torch.tensor([[-(2**31), 2**31 - 1]], dtype=torch.int32)
    monkeypatch.setattr(randomness, "random_bits", lambda *_: ends)
    drawn = randomness.uniform(0, "u", 0, range(1), (2,), HOST)
    assert drawn.tolist() == [[0, 1 - 2**-24]]


def test_small_draws_are_cut_from_blocks_and_large_ones_stand_alone() -> None:
    def stream(number: int, columns: int) -> Tensor:
        return randomness.uniform(1, f"a/{number}", 6, range(4, 9), (columns,), HOST)

    draws = Draws(1, 6, range(4, 9), HOST)
    assert torch.equal(draws("a", (2, 1, 1)), stream(1, 64)[:, :2].view(5, 2, 1, 1))
    assert torch.equal(draws("a", (1, 10, 10)), stream(2, 100).view(5, 1, 10, 10))
    assert torch.equal(draws("a", (60,)), stream(1, 64)[:, 2:62])
    assert torch.equal(draws("a", (3,)), stream(3, 64)[:, :3])
    assert torch.equal(draws("a", ()), stream(3, 64)[:, 3])
    assert not torch.equal(draws("b", (2,)), stream(1, 64)[:, :2])


def test_permutation_is_one() -> None:
    assert sorted(permutation(0, "p", 0, 1000).tolist()) == list(range(1000))


def test_uniform_latents_span_minus_one_to_one() -> None:
    latent = Latent(dim=50, distribution="uniform")
    drawn = randomness.latents(latent, 0, "g", 0, range(100), HOST)
    assert drawn.shape == (100, 50)
    assert -1 <= drawn.min() < -0.99
    assert 0.99 < drawn.max() < 1


FIRST_NORMAL = [0.5905018, -0.1981831, 0.3876365, 1.0543712]
FIRST_UNIFORM = [0.3281935453414917, 0.7852346301078796, 0.04429173469543457]
FIRST_PERMUTATION = [3, 2, 6, 5, 4, 7, 1, 0]
FIRST_SEED = 2506295101730931415
