import pytest
import torch
from torch import Tensor

from ganscale import philox
from ganscale.philox import WORD, philox4x32

HOST = torch.device("cpu")
ONES = (WORD,) * 4
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
KNOWN_ANSWERS = [  # "philox4x32 10" in kat_vectors of Random123
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (ONES, (WORD, WORD), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (PI, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]
KEY = 0xFEDCBA9876543210  # too large for a signed integer
STARTS = (0, 5, 2**32 - 2, 3 * 2**32 + 7, 2**62)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_the_words_are_those_of_its_authors(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    first, second, third, fourth = (torch.tensor(word) for word in counter)
    found = philox4x32((first, second, third, fourth), key)
    assert tuple(int(word) for word in found) == words


@pytest.mark.parametrize("number", [1, 4, 11])
def test_each_row_takes_consecutive_counters_of_64_bits(number: int) -> None:
    bits = philox.random_bits(KEY, torch.tensor(STARTS), number)
    assert (bits.dtype, bits.shape) == (torch.int32, (len(STARTS), number))
    for row, start in zip(bits.tolist(), STARTS, strict=True):
        for column, found in enumerate(row):
            counter = start + column // 4
            low, high, zero = (torch.tensor(w) for w in (counter & WORD, counter >> 32, 0))
            words = philox4x32((low, high, zero, zero), (KEY & WORD, KEY >> 32))
            assert found & WORD == int(words[column % 4])


@pytest.mark.parametrize("number", [1, 6, 64])
def test_pytorchs_kernel_gives_the_same_words(number: int) -> None:
    if not hasattr(torch.ops.aten, "_philox_randint_"):
        pytest.skip("this PyTorch has no such kernel")
    assert philox._has_native_philox(HOST)
    starts = torch.tensor(STARTS)
    for key in (0, 1, KEY):
        native = philox._native_bits(key, starts, number)
        assert torch.equal(native, philox._bits(key, starts, number))


def test_a_kernel_with_other_words_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = philox._bits(KEY, torch.tensor(STARTS), 9)

    def other(key: int, starts: Tensor, number: int) -> Tensor:
        return philox._bits(key, starts + 1, number)

    def missing(key: int, starts: Tensor, number: int) -> Tensor:
        raise RuntimeError

    for kernel in (other, missing):
        monkeypatch.setattr(philox, "_native_bits", kernel)
        philox._has_native_philox.cache_clear()
        assert torch.equal(philox.random_bits(KEY, torch.tensor(STARTS), 9), wanted)
    philox._has_native_philox.cache_clear()
