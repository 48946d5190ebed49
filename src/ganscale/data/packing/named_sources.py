"""Sources that have a name: datasets of other libraries.

To add a source, register a function here, or name one in a file of your own on the command line:
`ganscale pack my_sources.py:my_source FOLDER`. This file imports nothing large before it is needed,
because `ganscale pack --help` lists the names.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ganscale.errors import GanscaleError
from ganscale.registry import Registry

if TYPE_CHECKING:
    from ganscale.data.packing.sources import ArraySource, Source


class Request(NamedTuple):
    """What the command line says of the source."""

    split: str = "train"
    """`train` or `test`."""
    root: Path | None = None
    """The folder that holds datasets in a library's own layout."""
    download: bool = False
    """True if a library may download the dataset."""


class OpenSource(Protocol):
    """Opens a source."""

    def __call__(self, request: Request) -> "Source":
        """Return the source; raise `GanscaleError` if it is not there."""


SOURCES = Registry[OpenSource](
    "source", "ganscale.sources", wanted="a function of a request", accepts=callable
)


def torchvision_source(kind: str, request: Request) -> "ArraySource":
    """Return a dataset in torchvision's layout; with `download`, fetch it first."""
    import numpy as np
    import torchvision.datasets

    from ganscale.data.packing.sources import ArraySource

    if request.split not in ("train", "test"):
        raise GanscaleError(f"{kind}: no split '{request.split}'; it has train and test")
    root = request.root or Path("data/torchvision")
    try:
        dataset = getattr(torchvision.datasets, kind)(
            str(root), train=request.split == "train", download=request.download
        )
    except (RuntimeError, OSError) as error:
        hint = "; fetch it with --download, or say where it is with --data-root"
        first = str(error).splitlines()[0]
        raise GanscaleError(
            f"{kind} is not in {root} ({first}){'' if request.download else hint}"
        ) from None
    classes = tuple(str(c).split(" - ")[0] for c in dataset.classes)
    return ArraySource(
        f"{kind} {request.split}", np.asarray(dataset.data), np.asarray(dataset.targets), classes
    )


SOURCES.register("mnist")(partial(torchvision_source, "MNIST"))
SOURCES.register("fashion-mnist")(partial(torchvision_source, "FashionMNIST"))
SOURCES.register("cifar10")(partial(torchvision_source, "CIFAR10"))


@SOURCES.register("digits")
def digits_source(request: Request | None = None) -> "ArraySource":
    """Return scikit-learn's 1,797 digits of 8×8 pixels, scaled from 0 … 16 to 0 … 255."""
    import numpy as np
    from sklearn.datasets import load_digits

    from ganscale.data.packing.sources import ArraySource

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return ArraySource("scikit-learn digits", images, digits.target)
