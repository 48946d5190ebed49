"""Artifacts of Weights & Biases that a run may start from."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ganscale.errors import GanscaleError, in_one_line

SCHEME = "wandb:"
FORM = "wandb:ENTITY/PROJECT/NAME:ALIAS"
TIMEOUT_S = 30


@contextmanager
def downloaded(address: str) -> Iterator[Path]:
    """Yield a temporary folder with the files of the artifact `wandb:ENTITY/PROJECT/NAME:ALIAS`.

    Raises `GanscaleError` with one message if W&B does not give them, or if one of them would lie
    outside of the folder.
    """
    name = address.removeprefix(SCHEME)
    place, _, alias = name.rpartition(":")
    if len([part for part in place.split("/") if part]) != 3 or not alias:
        raise GanscaleError(f"{address} does not name an artifact: write {FORM}")
    with tempfile.TemporaryDirectory(prefix="ganscale-artifact-") as work:
        _download(name, address, Path(work))
        yield Path(work)


def _download(name: str, address: str, folder: Path) -> None:
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise GanscaleError(
            f"{address}: W&B does not know who you are; log in with `wandb login`, or set "
            "WANDB_API_KEY"
        )
    try:
        artifact = wandb.Api(timeout=TIMEOUT_S).artifact(name)
        for entry in artifact.manifest.entries:
            path = PurePosixPath(entry)
            if path.is_absolute() or ".." in path.parts:
                raise GanscaleError(f"{address}: it has a file that leads elsewhere: {entry}")
        artifact.download(root=str(folder), allow_missing_references=True, skip_cache=True)
    except GanscaleError:
        raise
    except Exception as error:  # W&B and its HTTP client have many kinds
        reason = in_one_line(error)
        raise GanscaleError(f"{address} cannot be loaded from W&B: {reason}") from None
