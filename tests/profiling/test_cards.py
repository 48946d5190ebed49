"""The table of cards."""

import pytest
import torch

from ganscale.errors import GanscaleError
from ganscale.profiling.cards import CARDS, find_card


def test_a_card_is_found_in_any_case() -> None:
    assert find_card("h100-pcie") is CARDS["H100-PCIe"]


def test_an_unknown_card_lists_those_known() -> None:
    with pytest.raises(GanscaleError, match="unknown card; use one of B200, H200, H100"):
        find_card("H300")


def test_the_rate_follows_the_type_of_the_numbers() -> None:
    card = CARDS["A100-80GB"]
    assert card.flop_per_s(torch.bfloat16, tf32=True) == 312e12
    assert card.flop_per_s(torch.float32, tf32=True) == 156e12
    assert card.flop_per_s(torch.float32, tf32=False) == 19.5e12
    assert CARDS["T4"].flop_per_s(torch.float32, tf32=True) == 8.1e12


def test_a_card_without_bf16_says_so() -> None:
    with pytest.raises(GanscaleError, match="T4 has no arithmetic in bf16"):
        CARDS["T4"].flop_per_s(torch.bfloat16, tf32=True)


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_rates_are_dense_ones(card: object) -> None:
    """A row copied with sparsity would break the ratio that tensor cores have."""
    rates = card.__dict__
    if rates["tf32"] is not None:
        assert 1.9 < rates["fp16"] / rates["tf32"] < 2.1
