"""Prefetching of remote shards: the next block downloads while the current one is read."""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from ganscale.errors import GanscaleError

log = logging.getLogger("ganscale")


class Prefetcher:
    """Fetches shards in its own thread; an error is left to whoever reads the shard."""

    def __init__(self, fetch: Callable[[int], None]):
        self._fetch = fetch
        self._requests: dict[int, Future[None]] = {}
        self._pool = ThreadPoolExecutor(1, "prefetch")

    def want(self, shards: Iterable[int]) -> None:
        """Fetch each of these shards once, and cancel the requests for all others."""
        wanted = list(shards)
        for shard in [s for s in self._requests if s not in wanted]:
            self._requests.pop(shard).cancel()
        for shard in wanted:
            if shard not in self._requests:
                self._requests[shard] = self._pool.submit(self._try_to_fetch, shard)

    def _try_to_fetch(self, shard: int) -> None:
        try:
            self._fetch(shard)
        except GanscaleError as error:
            log.info("prefetching failed: %s", error)
