"""What identifies the images of an experiment."""

from pathlib import Path

from ganscale.config import Data
from ganscale.data.shards.manifest import MANIFEST
from ganscale.data.shards.storage import open_storage


def fingerprint(data: Data) -> str:
    """Return the value of `ImageSet.fingerprint`, of a packed dataset without reading images.

    Raises `GanscaleError` if there is no such dataset, or no packed copy of a source of images as
    it is now.
    """
    if data.is_streamed:
        return data.reader
    if not all((Path(place) / MANIFEST).is_file() for place in data.places):
        from ganscale.data.own_data import find_copies  # imports what decodes images

        data = find_copies(data)
    return "-".join(open_storage(place, data).manifest().fingerprint for place in data.places)
