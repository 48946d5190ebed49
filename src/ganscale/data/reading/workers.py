"""Errors across processes: torch gives one back as a text that begins with a traceback."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import Dataset

from ganscale.errors import GanscaleError
from ganscale.system_errors import describe_error


class Guarded(Dataset[Any]):
    """A map-style dataset that gives its error as an item, for `unguarded` to raise."""

    def __init__(self, dataset: Any):
        self._dataset = dataset

    def __getitem__(self, k: Any) -> Any:
        """Item `k`, or what went wrong."""
        try:
            return self._dataset[k]
        except (GanscaleError, OSError) as error:
            return _message(error)


def guarded(items: Iterable[Any]) -> Iterator[Any]:
    """The items; where they end by an error that has a message, that as the last one."""
    try:
        yield from items
    except (GanscaleError, OSError) as error:
        yield _message(error)


def unguarded(items: Iterable[Any]) -> Iterator[Any]:
    """The items, in the process that asked for them; raises the `GanscaleError` among them."""
    for item in items:
        if isinstance(item, GanscaleError):
            raise item
        yield item


def _message(error: GanscaleError | OSError) -> GanscaleError:
    """What the operating system refuses (a full disk, a read-only cache) is a message, too."""
    return error if isinstance(error, GanscaleError) else GanscaleError(describe_error(error))
