"""Freezes the discriminator's lower layers for fine-tuning (FreezeD, Mo et al. 2020).

Their weights get no gradient and no update. Everything else in them goes on as in training:
BatchNorm normalises by the batch, which the layers above were trained on, and the vectors by which
spectral norm estimates a singular value follow it. Penalties differentiate through them.
"""

from torch import nn

from ganscale.errors import GanscaleError


def freeze_lower_stages(discriminator: nn.Module, number: int) -> list[str]:
    """Freeze the stages that see the image first, and return the names of their parameters.

    A network says by `stages()` what its stages are. Raises `GanscaleError` if it has fewer, or
    does not say.
    """
    if not number:
        return []
    stages = getattr(discriminator, "stages", None)
    if stages is None:
        raise GanscaleError(
            f"discriminator.freeze={number}: {type(discriminator).__name__} does not say what its "
            "stages are; give it a method stages() that returns its layers in groups, from the "
            "image on, as those of ganscale.networks do",
            every_rank=True,
        )
    found = stages()
    if number > len(found):
        raise GanscaleError(
            f"discriminator.freeze={number}: this network has {len(found)} stages below the logit; "
            "freeze fewer",
            every_rank=True,
        )
    frozen = {
        parameter for stage in found[:number] for layer in stage for parameter in layer.parameters()
    }
    for parameter in frozen:
        parameter.requires_grad_(False)
    return [name for name, parameter in discriminator.named_parameters() if parameter in frozen]
