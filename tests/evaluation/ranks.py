"""Several ranks in one process, each in a thread, for what talks by `Ranks.gather` alone."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

from ganscale.engines.distributed import Ranks

T = TypeVar("T")


def on_ranks(number: int, act: Callable[[Ranks], T]) -> list[T]:
    """What `act` gives on each of so many ranks."""
    words: list[Any] = [None] * number
    barrier = Barrier(number, timeout=60)

    def rank(i: int) -> Ranks:
        def gather(value: Any) -> list[Any]:
            words[i] = value
            barrier.wait()
            heard = list(words)
            barrier.wait()
            return heard

        return Ranks(i, number, i, number, 0, gather)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(lambda i: act(rank(i)), range(number)))
