"""Errors across processes: torch gives one back as a text that begins with a traceback."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import Dataset

from ganscale.errors import GanscaleError


class Guarded(Dataset[Any]):
    """A map-style dataset that gives its `GanscaleError` as an item, for `unguarded` to raise."""

    def __init__(self, dataset: Any):
        self._dataset = dataset

    def __getitem__(self, k: Any) -> Any:
        """Item `k`, or what went wrong."""
        try:
            return self._dataset[k]
        except GanscaleError as error:
            return error


def guarded(items: Iterable[Any]) -> Iterator[Any]:
    """The items; where they end by a `GanscaleError`, that as the last one."""
    try:
        yield from items
    except GanscaleError as error:
        yield error


def unguarded(items: Iterable[Any]) -> Iterator[Any]:
    """The items, in the process that asked for them; raises the `GanscaleError` among them."""
    for item in items:
        if isinstance(item, GanscaleError):
            raise item
        yield item
