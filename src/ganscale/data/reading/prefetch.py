"""Fetching the next block of remote shards while this one is read."""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from ganscale.errors import GanscaleError

log = logging.getLogger("ganscale")


class Prefetcher:
    """Fetches shards in a thread of its own; a failure is left to whoever reads the shard."""

    def __init__(self, fetch: Callable[[int], None]):
        self._fetch = fetch
        self._asked: dict[int, Future[None]] = {}
        self._pool = ThreadPoolExecutor(1, "prefetch")

    def want(self, shards: Iterable[int]) -> None:
        """Fetch these, each once as long as they stay wanted."""
        wanted = list(shards)
        for shard in [s for s in self._asked if s not in wanted]:
            self._asked.pop(shard).cancel()
        for shard in wanted:
            if shard not in self._asked:
                self._asked[shard] = self._pool.submit(self._quietly, shard)

    def _quietly(self, shard: int) -> None:
        try:
            self._fetch(shard)
        except GanscaleError as error:
            log.info("fetching ahead: %s", error)
