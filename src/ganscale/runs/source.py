"""Reads the weights that a run may start from: of a run, a safetensors file, a saved generator.

Only safetensors and JSON are read. Nothing is unpickled, and no code that a source names is run.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ganscale.config import Experiment, InitFrom
from ganscale.config.experiment import EACH_MISTAKE
from ganscale.errors import GanscaleError
from ganscale.runs import checkpoint
from ganscale.runs.hub import NAME, download
from ganscale.runs.pretrained import CONFIG, WEIGHTS, read_pretrained_weights
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.wandb_download import SCHEME, downloaded

UNNAMED = "network"
"""The part of a file that does not say which player's weights it holds."""
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Source:
    """Weights to start from, and what is known of the networks that they come from."""

    name: str
    """The checkpoint or file that was read, for messages."""
    parts: Mapping[str, Weights]
    """Some of `generator`, `discriminator` and `ema`; or only `network`, one of the two players."""
    experiment: Experiment | None = None
    """The experiment that trained them; None if it is not known."""
    classes: int | None = None
    class_names: tuple[str, ...] = ()
    """Names of the classes in the order of their numbers; empty if they are not known."""

    def sha256(self) -> str:
        """Return the SHA-256 of all weights, which does not depend on the file that holds them."""
        return sha256_of_weights(self.parts)


def sha256_of_weights(parts: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Return the SHA-256 of the names, shapes, types and values of tensors, in hexadecimal."""
    digest = hashlib.sha256()
    for part in sorted(parts):
        for name, tensor in sorted(parts[part].items()):
            host = tensor.detach().cpu().contiguous()
            digest.update(f"{part}\0{name}\0{tuple(host.shape)}\0{host.dtype}\0".encode())
            digest.update(host.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_source(init_from: InitFrom) -> Source:
    """Return the weights that `init_from` names.

    Raises `GanscaleError` if there are none, or if they cannot be read.
    """
    if init_from.source.startswith(SCHEME):
        with downloaded(init_from.source) as folder:
            return replace(_read_artifact(folder, init_from), name=init_from.source)
    path = Path(init_from.source).expanduser()
    if path.is_file():
        return _read_file(path)
    if (path / CONFIG).is_file():
        return _read_saved_generator(path, str(path))
    if path.is_dir():
        return _read_run(path, init_from.checkpoint)
    if NAME.fullmatch(init_from.source):
        saved = download(init_from.source, (CONFIG, WEIGHTS), init_from.revision)
        return _read_saved_generator(saved, init_from.source)
    raise GanscaleError(
        f"init_from.source={init_from.source}: there is no such run folder, safetensors file or "
        "saved generator, and it is not a name on the Hugging Face Hub (user/name)"
    )


def _read_artifact(folder: Path, init_from: InitFrom) -> Source:
    """Read the files of an artifact: of a run's checkpoint, or of its model."""
    if (folder / CONFIG).is_file():
        return _read_saved_generator(folder, init_from.source)
    if (folder / "checkpoints").is_dir():
        return _read_run(folder, init_from.checkpoint)
    raise GanscaleError(
        f"init_from.source={init_from.source}: the artifact is neither a checkpoint nor a model of "
        "ganscale"
    )


def _read_run(path: Path, name: str) -> Source:
    folder = RunFolder(path)
    experiment = folder.experiment()
    folder.refuse_links()
    found = folder.find_checkpoint(name, experiment.evaluation)
    parts = {part: checkpoint.read_weights(found, part) for part in checkpoint.PARTS}
    names = checkpoint.read_state(found).class_names
    return Source(str(found), parts, experiment, experiment.data.classes, names)


def _read_file(path: Path) -> Source:
    """Read a safetensors file: one network, or parts whose tensors begin with `generator.` etc."""
    try:
        with safe_open(path, "pt") as file:
            weights: Weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = (file.metadata() or {}).get("experiment")
    except (OSError, SafetensorError) as error:
        raise GanscaleError(
            f"init_from.source={path} is not a safetensors file ({error}); files that have to be "
            "unpickled are not read"
        ) from None
    parts: dict[str, Weights] = {}
    for name, tensor in weights.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    if not parts.keys() <= set(checkpoint.PARTS):
        # What `ganscale export` writes says by whom it was trained, and is the EMA's generator.
        parts = {"ema" if about is not None else UNNAMED: weights}
    experiment = _experiment_in(about) if about is not None else None
    classes = experiment.data.classes if experiment is not None else None
    return Source(str(path), parts, experiment, classes)


def _experiment_in(about: str) -> Experiment | None:
    """Return the experiment in an export's metadata; None if this version cannot read it."""
    try:
        return Experiment.model_validate(json.loads(about), context=EACH_MISTAKE)
    except (ValueError, RecursionError, ValidationError):
        return None


def _read_saved_generator(folder: Path, name: str) -> Source:
    weights, about = read_pretrained_weights(folder)
    return Source(name, {"ema": weights}, classes=about.classes)
