"""How long a step of an experiment takes on this machine, measured on images of noise."""

import time

import torch

from ganscale.config import Experiment
from ganscale.data.reading.readers import Batch
from ganscale.devices import wait_for
from ganscale.engines.arithmetic import set_up_arithmetic
from ganscale.engines.launcher import Launcher
from ganscale.training.model import GANModel
from ganscale.training.update import GANStep

AT_LEAST_S = 2.0
MAX_STEPS = 200


def measure_step(experiment: Experiment) -> float:
    """Train for a few steps in this process, without data or a run folder; return seconds a step.

    The steps contain each penalty as often as a long run does on average, or nearly so. Raises
    `torch.OutOfMemoryError` if a GPU cannot hold the step.
    """
    set_up_arithmetic(experiment.train)
    model = GANModel(experiment, Launcher())
    images = experiment.train.batch_size
    gan_step = GANStep(experiment, model, range(images))
    pixels = torch.randint(256, (images, *experiment.image_shape), dtype=torch.uint8)
    labels = torch.arange(images) % (experiment.data.classes or 1)
    batches = [Batch(pixels, labels)] * experiment.discriminator.steps
    period = max((penalty.every for penalty in experiment.objective.penalties), default=1)

    def step(number: int) -> None:
        model.rates.apply(number)
        gan_step(number, batches, measure=False)

    step(0)  # the first one allocates, and may compile
    wait_for(model.device)
    start, done = time.perf_counter(), 0
    while (
        done == 0
        or done % period
        or (done < MAX_STEPS and time.perf_counter() - start < AT_LEAST_S)
    ):
        step(1 + done)
        done += 1
    wait_for(model.device)
    return (time.perf_counter() - start) / done
