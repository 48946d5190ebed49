"""The evaluator of a run that has been trained: it needs the images that the run was trained on."""

from pathlib import Path

import torch

from ganscale.config import Data, Experiment
from ganscale.data.packing.copies import Copies, is_source
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.resident import open_reader
from ganscale.data.shards.manifest import MANIFEST
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from ganscale.evaluation.evaluator import Evaluator
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder


def open_evaluator(
    experiment: Experiment, folder: RunFolder, path: Path, ranks: Ranks, device: torch.device
) -> Evaluator:
    """Return the evaluator of the dataset that a run's checkpoint at `path` was trained on.

    Raises `GanscaleError` if the dataset is not there.
    """
    # A stranger's run must not choose which folder of this machine is filled, or how far.
    defaults = Data()
    data = experiment.data.model_copy(
        update={"cache": defaults.cache, "cache_gib": defaults.cache_gib}
    )
    data = data.model_copy(update={"path": packed_path(experiment.data, folder, path)})
    images = ImageSet(data)
    reader, _ = open_reader(data, images, ranks, device)
    experiment = experiment.model_copy(update={"data": data})
    return Evaluator(experiment, images, reader, device, ranks, folder.path)


def packed_path(data: Data, folder: RunFolder, path: Path) -> str:
    """Return `data.path`, or the packed copy of the images that a checkpoint was trained on.

    A stranger's run could name any folder of this machine, so nothing is packed here.
    """
    if data.mixture or (Path(data.path) / MANIFEST).is_file():
        return data.path
    copies = Copies(data)
    copy = copies.find_fingerprint(checkpoint.read_state(path).data_fingerprint)
    if copy is not None:
        return str(copy)
    if is_source(data.path, data):
        raise GanscaleError(
            f"{data.path}: the copy that {folder.path} was trained on is not in "
            f"{copies.folder}; ganscale train {folder.path / 'experiment.yaml'} packs it "
            "again"
        )
    return data.path
