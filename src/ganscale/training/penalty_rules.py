"""Which discriminators a gradient penalty is defined for, checked before the first step.

The check looks at the layers themselves, so that it covers a network of the user's own too.
"""

import logging

from torch import nn

from ganscale.config import Experiment
from ganscale.errors import GanscaleError
from ganscale.gan.penalties import PENALTIES
from ganscale.networks.layers import has_batch_norm, has_sync_batch_norm

log = logging.getLogger("ganscale")


def refuse_unfit_penalties(experiment: Experiment, discriminator: nn.Module) -> None:
    """Raise `GanscaleError` if a penalty cannot be computed, or would not be what its name says.

    R1 and R2 with BatchNorm can be computed, but are not what their paper means: logs a warning.
    """
    kinds = [penalty.kind for penalty in experiment.objective.penalties]
    if not kinds or not has_batch_norm(discriminator):
        return
    what = f"objective.penalties ({', '.join(kinds)}) with BatchNorm in the discriminator"
    use = "use a discriminator without BatchNorm (discriminator.network.norm=none or spectral)"
    if experiment.train.sync_batch_norm or has_sync_batch_norm(discriminator):
        raise GanscaleError(
            f"{what}, over all processes: SyncBatchNorm has no second derivative, which "
            f"a gradient penalty needs; {use}, or set train.sync_batch_norm=false",
            every_rank=True,
        )
    if any(PENALTIES.get(kind).of_each_image_alone for kind in kinds):
        raise GanscaleError(
            f"{what}: this penalty is defined for each image alone, and BatchNorm mixes them; "
            f"{use}",
            every_rank=True,
        )
    if experiment.train.compile:
        raise GanscaleError(
            f"{what}: a compiled penalty may not write BatchNorm's running statistics; {use}, or "
            "set train.compile=false",
            every_rank=True,
        )
    log.warning(
        "%s: the gradient of one image's logit then runs through the other images of its "
        "micro-batch, so the penalty depends on how the batch is divided; %s",
        what,
        use,
    )
