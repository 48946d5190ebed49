"""Philox4x32-10, a counter-based random number generator, on the device that wants the numbers.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": ten rounds of multiplication and
exclusive or turn a counter of four 32-bit words and a key of two into four random words. Integers
are not rounded, so the words are the same on every device, in eager mode and compiled.
"""

from functools import lru_cache

import torch
from torch import Tensor

WORDS_PER_COUNTER = 4
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORD = 0xFFFFFFFF

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Return the four random words of each counter.

    A word is an int64 tensor of values below 2³², as PyTorch does no arithmetic on uint32. Those
    of the counter are broadcast against each other. Products wrap around as those of uint64 do.
    """
    # After a round, words 1 and 3 are the low halves of its products.
    left, old_right, right, old_left = counter
    for i in range(ROUNDS):
        keys = [(key[j] + i * KEY_STEPS[j]) & WORD for j in (0, 1)]
        new_left, new_right = left * MULTIPLIERS[0], right * MULTIPLIERS[1]
        left = ((new_right >> 32) ^ keys[0] ^ old_right) & WORD
        right = ((new_left >> 32) ^ keys[1] ^ old_left) & WORD
        old_left, old_right = new_left, new_right
    return left, old_right & WORD, right, old_left & WORD


def random_bits(key: int, starts: Tensor, number: int) -> Tensor:
    """Return `number` random words for each row: int32, (len(starts), number), of any value.

    `key` has 64 bits. Row r takes the counters from `starts[r]` (int64) on, four words from each;
    they are the lower 64 bits of Philox's counter, the upper ones are 0.
    """
    if not torch.compiler.is_compiling() and _has_native_philox(starts.device):
        return _native_bits(key, starts, number)
    # Compiled, these operations become one kernel with those that use the words.
    return _bits(key, starts, number)


def _bits(key: int, starts: Tensor, number: int) -> Tensor:
    counters = -(-number // WORDS_PER_COUNTER)
    counter = starts[:, None] + torch.arange(counters, device=starts.device)
    zero = torch.zeros_like(counter)
    words = philox4x32(
        (counter & WORD, (counter >> 32) & WORD, zero, zero), (key & WORD, key >> 32)
    )
    return torch.stack(words, -1).flatten(1)[:, :number].to(torch.int32)


def _native_bits(key: int, starts: Tensor, number: int) -> Tensor:
    """Do the same in one kernel of PyTorch's own, which recent versions have.

    Its full range of int32 is one word of Philox each, and its key holds the first counter, too.
    """
    key_of_rows = torch.full_like(starts, key - 2**64 if key >= 2**63 else key)
    keys = torch.stack((key_of_rows, starts), -1).view(torch.uint64)[:, None]
    words = torch.empty(len(starts), number, dtype=torch.int32, device=starts.device)
    torch.ops.aten._philox_randint_(words, keys, -(2**31), None)
    return words


@lru_cache
def _has_native_philox(device: torch.device) -> bool:
    """Return whether PyTorch's kernel, an experimental one, gives the words of Philox there."""
    if not hasattr(torch.ops.aten, "_philox_randint_"):
        return False
    key, starts = 0x0123456789ABCDEF, torch.tensor([2**32 - 1, 7 << 32], device=device)
    try:
        native = _native_bits(key, starts, 6)
    except (RuntimeError, TypeError):
        return False
    return torch.equal(native, _bits(key, starts, 6))
