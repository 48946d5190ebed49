"""A few samples with what the discriminator says of each, for a table that a person reads."""

import torch

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.evaluation.samples import pixels
from ganscale.gan.sampling import run_generator, sample_labels, to_pixels
from ganscale.monitoring.grids import show
from ganscale.monitoring.trackers.tracker import JudgedSamples
from ganscale.training.model import GANModel

SAMPLES = 16


@torch.no_grad()
def judge_samples(
    experiment: Experiment,
    model: GANModel,
    generator: torch.nn.Module,
    class_names: tuple[str, ...] = (),
) -> JudgedSamples:
    """Return the first samples of the run's pictures with their logits. All ranks must call this.

    The discriminator judges in evaluation mode, in which no layer changes its buffers: looking at
    the run does not change it.
    """
    rows, classes = range(SAMPLES), experiment.data.classes
    latents = randomness.latents(
        experiment.latent, experiment.seed, "pictures", 0, rows, model.device
    )
    labels = sample_labels(rows, classes)
    images = run_generator(generator, latents, labels)
    discriminator = model.discriminator.module
    training = [module for module in discriminator.modules() if module.training]
    discriminator.eval()
    with model.discriminator.gathered_weights():
        logits = discriminator(images, *(of_class.to(model.device) for of_class in labels))
    for module in training:
        module.training = True
    return JudgedSamples(
        show(pixels(to_pixels(images, experiment.data.bits))),
        tuple(class_names[i] if class_names else str(i) for i in labels[0]) if labels else (),
        tuple(logits.float().tolist()),
    )
