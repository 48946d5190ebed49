"""The page's generator from a run, which may still be training."""

import shlex
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ganscale.devices import best_device
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from ganscale.evaluation.evaluator import Evaluator
from ganscale.evaluation.samples import pixels
from ganscale.gan.sampling import run_generator, to_pixels
from ganscale.gan.truncation import has_batch_norm
from ganscale.library.generator import Generator
from ganscale.monitoring.grids import show
from ganscale.networks.build import first_discriminator
from ganscale.pages.explore.saved_subject import NO_MIXING, describe_images, generate_shown
from ganscale.pages.explore.subject import (
    CannotShowError,
    Choice,
    Facts,
    Floats,
    Labels,
    Shown,
    Subject,
)
from ganscale.registry import short_name
from ganscale.runs import checkpoint
from ganscale.runs.checkpoint_names import list_finished
from ganscale.runs.pretrained import CONFIG
from ganscale.runs.run_evaluator import open_evaluator
from ganscale.runs.sampler import Sampler

NEIGHBOURS = 8
KEPT_NETWORKS = 32
T = TypeVar("T")


def open_subject(folder: Path, trust_code: bool) -> Subject:
    """Return what a folder holds: a run, or a generator from `ganscale export`.

    Raises `GanscaleError` if it is neither, or if the run names code that is not trusted.
    """
    if (folder / CONFIG).is_file():
        from ganscale.pages.explore.saved_subject import SavedSubject

        return SavedSubject(folder)
    return RunSubject(folder, trust_code)


class RunSubject:
    """A run's generators: of each checkpoint, the moving average and the weights themselves."""

    def __init__(self, run: Path, trust_code: bool):
        sampler = Sampler(run, "latest", trust_code=trust_code)
        self._run = run
        self._trust_code = trust_code
        self._folder, self._experiment = sampler.folder, sampler.experiment
        self._evaluator: Evaluator | None = None
        # Requests come in threads of their own. What takes long has a lock of its own.
        self._loading, self._evaluating = threading.Lock(), threading.Lock()
        # A lock for each set of BatchNorm's statistics, so that none is computed twice at once.
        self._preparing: defaultdict[Choice, threading.Lock] = defaultdict(threading.Lock)
        self._networks: OrderedDict[tuple[str, str], Any] = OrderedDict()
        newest = self._generator(Choice(sampler.checkpoint.name))
        self._has_batch_norm = has_batch_norm(newest.network)
        about = newest.about
        architecture = short_name(self._experiment.generator.network.architecture)
        names = checkpoint.read_state(sampler.checkpoint).class_names if about.classes else ()
        self.facts = Facts(
            name=about.name,
            what=f"{architecture}, {describe_images(about)}",
            dim=about.dim,
            distribution=about.distribution,
            classes=about.classes,
            class_names=names,
            mixes_classes=newest.mixes_classes,
            weights=("ema", "generator"),
            judges=True,
            command=f"ganscale sample {shlex.quote(str(run))}",
            absent=(NO_MIXING,) if about.classes and not newest.mixes_classes else (),
        )

    def checkpoints(self) -> Sequence[str]:
        """Return the names of the checkpoints that there are now, the oldest first."""
        return [path.name for path in list_finished(self._folder.checkpoints)]

    def prepare(self, thresholds: Sequence[float]) -> None:
        """Compute the statistics of truncated latents, which BatchNorm needs, before they are used.

        Does nothing for a network without BatchNorm.
        """
        names = self.checkpoints()
        if self._has_batch_norm and names:
            for threshold in thresholds:
                self._network(Choice(names[-1], truncation=threshold))

    def generate(self, latents: Floats, labels: Labels | None, choice: Choice) -> Shown:
        """Return the images: see `Subject.generate`."""
        self._network(choice)
        return generate_shown(self._generator(choice), latents, labels, choice)

    @torch.no_grad()
    def logit(self, latents: Floats, labels: Labels | None, choice: Choice) -> float:
        """Return the logit that the same checkpoint's discriminator gives the image."""
        images, tensors = self._raw(latents, labels, choice)
        logits: Tensor = self._discriminator(choice)(images, *tensors)
        return logits.item()

    def neighbours(self, latents: Floats, labels: Labels | None, choice: Choice) -> Shown:
        """Return the real images nearest to the image in the evaluation's features."""
        images, _ = self._raw(latents, labels, choice)
        with self._evaluating:
            try:
                if self._evaluator is None:
                    path = self._find(choice.checkpoint)
                    self._evaluator = open_evaluator(
                        self._experiment, self._folder, path, Ranks(), best_device()
                    )
                made = to_pixels(images, self._experiment.data.bits)
                nearest = self._evaluator.nearest(made, NEIGHBOURS)[0]
            except (GanscaleError, OSError) as error:
                reason = str(error).partition("\n")[0]
                raise CannotShowError(f"The real images cannot be read: {reason}") from None
        return show(pixels(nearest))

    @torch.no_grad()
    def _raw(
        self, latents: Floats, labels: Labels | None, choice: Choice
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the network's own output, not rounded to pixels, and the labels on its device."""
        generator = self._generator(choice)
        tensors = () if labels is None else (torch.from_numpy(labels).to(generator.device),)
        inputs = torch.from_numpy(latents).to(generator.device)
        return run_generator(self._network(choice), inputs, tensors), tensors

    def _network(self, choice: Choice) -> nn.Module:
        """Return the network, with the statistics of truncated latents where it needs them."""
        generator = self._generator(choice)
        with self._preparing[choice]:
            return generator.network_for(choice.truncation)

    def _generator(self, choice: Choice) -> Generator:
        def load() -> Generator:
            return Generator.from_run(
                self._run, choice.checkpoint, weights=choice.weights, trust_code=self._trust_code
            )

        return self._kept((choice.checkpoint, choice.weights), load)

    def _discriminator(self, choice: Choice) -> nn.Module:
        def load() -> nn.Module:
            path = self._find(choice.checkpoint)
            network = first_discriminator(self._experiment)
            with checkpoint.explain_mismatch(path):
                network.load_state_dict(checkpoint.read_weights(path, "discriminator"))
            return network.to(best_device()).eval().requires_grad_(False)

        return self._kept((choice.checkpoint, "discriminator"), load)

    def _find(self, name: str) -> Path:
        return self._folder.find_checkpoint(name, self._experiment.evaluation)

    def _kept(self, name: tuple[str, str], load: Callable[[], T]) -> T:
        """Return a network, loaded now if it was not used lately."""
        with self._loading:
            if name not in self._networks:
                try:
                    self._networks[name] = load()
                except (GanscaleError, OSError) as error:
                    raise CannotShowError(
                        f"{name[0]} cannot be used: {error} If the run is training, it may have "
                        "been removed: reload the page."
                    ) from None
            self._networks.move_to_end(name)
            while len(self._networks) > KEPT_NETWORKS:
                self._networks.popitem(last=False)
            kept: T = self._networks[name]
            return kept
