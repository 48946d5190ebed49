"""Memorisation against scikit-learn's neighbours, a closed form, and generators that copy."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from ganscale.evaluation.metrics import neighbourhoods
from ganscale.evaluation.metrics.memorisation import memorisation, real_neighbours
from tests.evaluation.ranks import on_ranks


def drawn(seed: int, number: int, width: int) -> Tensor:
    return torch.rand(number, width, generator=torch.Generator().manual_seed(seed))


def by_hand(real: Tensor, fake: Tensor) -> float:
    x, y = real.double().numpy(), fake.double().numpy()
    own = NearestNeighbors(n_neighbors=2).fit(x).kneighbors(x)[0][:, 1]
    distances, nearest = NearestNeighbors(n_neighbors=1).fit(x).kneighbors(y)
    return float((distances[:, 0] < own[nearest[:, 0]]).mean())


def test_memorisation_is_the_share_by_hand_on_any_number_of_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbourhoods, "CHUNK", 70)
    real, fake = drawn(0, 400, 6), drawn(1, 300, 6)
    expected = by_hand(real, fake)
    assert 0.2 < expected < 0.6
    assert memorisation(real, fake) == expected
    assert on_ranks(3, lambda ranks: memorisation(real, fake, ranks=ranks)) == [expected] * 3


def test_copies_get_1_though_the_real_set_holds_some_images_twice() -> None:
    real = drawn(0, 300, 8)

    def rounded(images: Tensor, seed: int) -> Tensor:  # as another batch would round its features
        return images + 3e-7 * drawn(seed, len(images), 8)

    twice = torch.cat([real, rounded(real[:100], 2), real[:50]])
    assert memorisation(twice, rounded(real, 3)) == 1
    assert memorisation(twice, drawn(1, 300, 8) + 3) == 0


def test_perfect_samples_get_what_is_said_of_them() -> None:
    line, many = drawn(0, 300, 1), drawn(0, 2000, 6)
    means = np.mean([real_neighbours(drawn(i, 300, 1)).share_of_perfect for i in range(20)])
    assert means == pytest.approx(2 / 3, abs=0.02)  # of mutual neighbours on a line
    assert real_neighbours(torch.cat([line, line])).share_of_perfect == pytest.approx(
        real_neighbours(line).share_of_perfect
    )
    perfect = np.mean([memorisation(many, drawn(i, 2000, 6)) for i in range(1, 4)])
    assert real_neighbours(many).share_of_perfect == pytest.approx(perfect, abs=0.03)
