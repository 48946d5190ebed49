"""Errors from worker processes, passed on as items.

torch would turn an exception of a worker into a text that begins with a traceback.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import Dataset

from ganscale.errors import GanscaleError
from ganscale.system_errors import describe_error


class GuardedDataset(Dataset[Any]):
    """A map-style dataset that returns its error as an item, for `reraise_errors` to raise."""

    def __init__(self, dataset: Any):
        self._dataset = dataset

    def __getitem__(self, k: Any) -> Any:
        """Return item `k`, or the error that was raised instead."""
        try:
            return self._dataset[k]
        except (GanscaleError, OSError) as error:
            return _as_message(error)


def guard_items(items: Iterable[Any]) -> Iterator[Any]:
    """Yield the items, and an error that ends them as the last item."""
    try:
        yield from items
    except (GanscaleError, OSError) as error:
        yield _as_message(error)


def reraise_errors(items: Iterable[Any]) -> Iterator[Any]:
    """Yield the items in the main process; raise the first `GanscaleError` among them."""
    for item in items:
        if isinstance(item, GanscaleError):
            raise item
        yield item


def _as_message(error: GanscaleError | OSError) -> GanscaleError:
    """Turn an error of the operating system, such as a full disk, into a message as well."""
    return error if isinstance(error, GanscaleError) else GanscaleError(describe_error(error))
