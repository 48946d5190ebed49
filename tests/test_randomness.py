import numpy as np
import torch
from scipy import stats

from ganscale import randomness
from ganscale.config import Latent


def test_rows_do_not_depend_on_who_draws_them() -> None:
    whole = randomness.normal(1, "z", 5, range(64), (7,))
    for parts in (2, 4, 64):
        size = 64 // parts
        split = [
            randomness.normal(1, "z", 5, range(i * size, i * size + size), (7,))
            for i in range(parts)
        ]
        assert torch.equal(torch.cat(split), whole)


def test_seed_purpose_and_step_each_change_the_draw() -> None:
    base = randomness.uniform(1, "a", 2, range(4), (8,))
    for other in ((2, "a", 2), (1, "b", 2), (1, "a", 3)):
        assert not torch.equal(base, randomness.uniform(*other, range(4), (8,)))
    assert torch.equal(base, randomness.uniform(1, "a", 2, range(4), (8,)))


def test_the_stream_is_the_same_for_ever() -> None:
    """Numbers of the first release: a change would break every run that is to go on."""
    drawn = randomness.normal(0, "latent/generator", 0, range(1), (4,))[0]
    expected = torch.tensor(FIRST_NORMAL)
    assert torch.allclose(drawn, expected, atol=1e-6)
    assert randomness.permutation(0, "order/shards", 0, 8).tolist() == FIRST_PERMUTATION


def test_normal_and_uniform_are_what_they_say() -> None:
    normal = randomness.normal(3, "z", 0, range(2000), (25,)).flatten().numpy()
    uniform = randomness.uniform(3, "u", 0, range(2000), (25,)).flatten().numpy()
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    # Rows that shared words of the stream would be correlated.
    rows = randomness.normal(3, "z", 0, range(2000), (2,)).numpy()
    assert abs(np.corrcoef(rows[:-1, 1], rows[1:, 0])[0, 1]) < 0.08


def test_permutation_is_one() -> None:
    assert sorted(randomness.permutation(0, "p", 0, 1000).tolist()) == list(range(1000))


def test_uniform_latents_span_minus_one_to_one() -> None:
    latent = Latent(dim=50, distribution="uniform")
    drawn = randomness.latents(latent, 0, "g", 0, range(100))
    assert drawn.shape == (100, 50)
    assert -1 <= drawn.min() < -0.99
    assert 0.99 < drawn.max() <= 1


FIRST_NORMAL = [1.4482493, -0.7387087, 0.4038653, -0.5695238]
FIRST_PERMUTATION = [3, 2, 6, 5, 4, 7, 1, 0]
