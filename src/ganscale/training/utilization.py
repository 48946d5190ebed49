"""How much of a GPU's arithmetic a run uses: the number `mfu` of the log."""

import logging

import torch

from ganscale import devices
from ganscale.config import Experiment
from ganscale.engines.player import DTYPES
from ganscale.errors import GanscaleError
from ganscale.profiling.matmul_rate import measure_matmul_rate

log = logging.getLogger("ganscale")


class Utilization:
    """Model FLOPs utilization (MFU; Chowdhery et al. 2022, appendix B).

    The denominator is not the vendor's peak but the rate of a large matrix product on this very
    device, in the networks' precision. Both it and the FLOP of an image are found when they are
    first asked for, without touching a weight, a buffer or a random state.
    """

    def __init__(self, experiment: Experiment, device: torch.device, world_size: int):
        self._experiment = experiment
        self._device = device
        self._world_size = world_size
        self._images_per_s: float | None = None  # of the whole run at the matmul rate
        self._known = False

    def of(self, images_per_s: float) -> float | None:
        """Return the MFU at this speed of all processes together; None if it cannot be counted."""
        if not self._known:
            self._images_per_s, self._known = self._find(), True
        return None if self._images_per_s is None else images_per_s / self._images_per_s

    def _find(self) -> float | None:
        # It imports PyTorch's compiler, for fake tensors: only where something is counted.
        from ganscale.training.rehearsal import flop_per_image

        precision = DTYPES.get(self._experiment.train.precision, torch.float32)
        try:
            flop = flop_per_image(self._experiment)
            rate = measure_matmul_rate(self._device, precision)
        except (GanscaleError, torch.OutOfMemoryError) as error:
            log.info("the log has no mfu: %s", str(error).splitlines()[0])
            return None
        devices.forget_peak_memory(self._device)  # the matrices are not the run's
        return rate * self._world_size / flop
