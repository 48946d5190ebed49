"""A run from its experiment to its last checkpoint: the machinery around `step.py`."""

import logging
import math
import platform
from pathlib import Path

import torch
from torch import Tensor, nn

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.data.loader import BatchDataset, Ranks, batches, open_reader
from ganscale.data.manifest import Manifest, load_manifest
from ganscale.data.order import Order
from ganscale.errors import GanscaleError
from ganscale.evaluation.evaluate import Evaluator
from ganscale.monitoring.pictures import save_grid, to_uint8
from ganscale.monitoring.progress import PhaseTimer, TrainingProgress, set_up_logging
from ganscale.monitoring.report import write_report
from ganscale.monitoring.trackers import Trackers
from ganscale.networks import build_discriminator, build_generator
from ganscale.training import checkpoint
from ganscale.training.ema import MovingAverage
from ganscale.training.players import Player
from ganscale.training.preemption import StopRequest
from ganscale.training.run_folder import RunFolder
from ganscale.training.step import GANStep

STANDING_BATCHES = 16  # of latents, for the BatchNorm statistics of the average (BigGAN uses them)
STANDING_BATCH_SIZE = 128

log = logging.getLogger("ganscale")


class Trainer:
    """One rank of a run. Build it, `resume()`, `run()`."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.folder = RunFolder.of(experiment)
        torch.backends.cuda.matmul.allow_tf32 = experiment.train.tf32
        torch.backends.cudnn.allow_tf32 = experiment.train.tf32
        self.generator, self.discriminator = build_players(experiment)
        self.accelerator = self.generator.accelerator
        self.device = self.generator.device
        self.is_main = bool(self.accelerator.is_main_process)
        set_up_logging(self.accelerator.process_index)
        self.ranks = Ranks(
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            local_rank=self.accelerator.local_process_index,
            local_world_size=torch.distributed_local_size()
            if hasattr(torch, "distributed_local_size")
            else 1,
            barrier=self.accelerator.wait_for_everyone,
        )
        self.rows = self.ranks.rows(experiment.train.batch_size)
        self._check_micro_batches()
        self.manifest = self._open_set()
        self.average = build_average(experiment, self.generator)
        self.gan_step = GANStep(
            experiment, self.generator, self.discriminator, self.average, self.rows
        )
        self.step = 0
        self.wandb_id: str | None = None
        self.metrics: dict[str, float] = {}
