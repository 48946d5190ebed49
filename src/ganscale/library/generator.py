"""A trained generator, as a program uses it.

Loading one that was saved, and sampling it, needs torch and safetensors and nothing else of what
training needs: its network is read as a graph of torch operations, so no code of the network's
author is run, and none has to be installed.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ganscale import randomness
from ganscale.errors import GanscaleError
from ganscale.gan.sampling import generate, interpolation, refuse_unknown_class, sample_labels
from ganscale.runs.pretrained import (
    CARD,
    CONFIG,
    GRAPH,
    WEIGHTS,
    About,
    read_pretrained,
    write_pretrained,
)


class Generator:
    """A generator in evaluation mode, and what its latents and images are.

    `network` maps latents (N, dim), and labels (N,) int64 if it is conditional, to images
    (N, C, H, W), nominally in [-1, 1].
    """

    def __init__(self, network: nn.Module, about: About, device: str | torch.device | None = None):
        self.about = about
        self.device = torch.device(device) if device is not None else _best_device()
        self.network = network.to(self.device)

    # -- where it comes from -------------------------------------------------------------------

    @classmethod
    def from_run(
        cls,
        run: str | Path,
        checkpoint: str = "latest",
        *,
        weights: str = "ema",
        trust_code: bool = False,
        device: str | torch.device | None = None,
    ) -> Generator:
        """Return the generator of a run folder.

        `checkpoint` is `latest`, `best` or a checkpoint's name; `weights` is `ema`, the moving
        average, or `generator`, the weights themselves. `trust_code` allows code that the run names
        to be executed, even if you have not trained the run on this machine. Raises
        `GanscaleError` if there is no such checkpoint.
        """
        from ganscale.runs.export import about
        from ganscale.runs.sampler import Sampler

        sampler = Sampler(run, checkpoint, weights, trust_code=trust_code)
        return cls(sampler.generator.requires_grad_(False), about(sampler.experiment), device)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
    ) -> Generator:
        """Return a generator from a folder, or from `user/name` on the Hugging Face Hub.

        `revision` names a branch, tag or commit there. Raises `GanscaleError` if what lies there is
        not a saved generator.
        """
        folder = Path(source)
        if not folder.is_dir():
            from ganscale.library.hub import download

            folder = download(str(source), (CONFIG, WEIGHTS, GRAPH), revision)
        network, about = read_pretrained(folder)
        return cls(network, about, device)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the generator into a folder for `from_pretrained`, and return the folder.

        It holds `config.json`, the weights as `model.safetensors`, the network's operations as
        `graph.json`, and a short model card, unless there is one.
        """
        write_pretrained(self.network, self.about, Path(folder))
        return Path(folder)

    def push_to_hub(self, name: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the generator to the Hugging Face Hub as `user/name`; return its address.

        Without `token` it is what `hf auth login` or HF_TOKEN says. A model card that is there
        already is left as it is. For one with scores and samples, use `ganscale push RUN
        user/name`.
        """
        from ganscale.library.hub import upload

        with tempfile.TemporaryDirectory() as folder:
            saved = self.save_pretrained(folder)
            return upload(saved, name, private=private, token=token, keep=(CARD,))

    # -- what it makes -------------------------------------------------------------------------

    def latents(self, number: int, seed: int = 0) -> Tensor:
        """Return the latents of samples 0 … `number` - 1 of a seed, float32 (number, dim)."""
        rows = range(number)
        return randomness.latents(self.about, seed, "sample", 0, rows, self.device)

    def sample(
        self,
        number: int,
        *,
        seed: int = 0,
        label: int | None = None,
        truncation: float = 1.0,
        batch_size: int = 250,
    ) -> Tensor:
        """Return samples 0 … `number` - 1 of a seed, uint8 (number, C, H, W), in host memory.

        They are those of `ganscale sample --seed`. A conditional generator makes its classes in
        turn, or only `label`. With a `truncation` below 1, latents are multiplied by it: images are
        more typical, and more alike (Brock et al. 2019, section 3.1, truncate them instead).
        """
        if not 0 < truncation <= 1:
            raise GanscaleError(f"truncation={truncation} must be above 0 and at most 1")
        refuse_unknown_class(label, self.about.classes)
        latents = self.latents(number, seed) * truncation
        labels = sample_labels(range(number), self.about.classes, label)
        return self.images(latents, *labels, batch_size=batch_size)

    def interpolate(
        self, seeds: Sequence[int], *, steps: int = 12, label: int | None = None
    ) -> Tensor:
        """Return images on the way from each seed's first sample to the next one's.

        uint8 (steps · (len(seeds) - 1) + 1, C, H, W): `steps` for each pair of neighbours, and the
        last one. Normal latents are interpolated along a sphere (White 2016), uniform ones along a
        line.
        """
        if len(seeds) < 2 or steps < 1:
            raise GanscaleError("an interpolation needs two seeds or more, and steps above 0")
        refuse_unknown_class(label, self.about.classes)
        ends = torch.cat([self.latents(1, seed) for seed in seeds])
        between = interpolation(self.about.distribution)
        fractions = torch.arange(steps, device=self.device) / steps
        path = [between(a, b, t) for a, b in itertools.pairwise(ends.split(1)) for t in fractions]
        latents = torch.cat([*path, ends[-1:]])
        labels = sample_labels(range(len(latents)), self.about.classes, label or 0)
        return self.images(latents, *labels)

    def images(
        self, latents: Tensor, labels: Tensor | None = None, *, batch_size: int = 250
    ) -> Tensor:
        """Return the images of latents (N, dim), and of labels (N,) int64 if it is conditional.

        uint8 (N, C, H, W), 0 … 255, in host memory. Raises `GanscaleError` if a pixel is NaN or
        infinite.
        """
        latents = latents.to(self.device)

        def labels_of(rows: range) -> tuple[Tensor, ...]:
            return () if labels is None else (labels[rows.start : rows.stop],)

        rows = range(len(latents))
        batches = generate(
            self.network, lambda part: latents[part.start : part.stop], labels_of, rows, batch_size
        )
        return torch.cat(list(batches))


def _best_device() -> torch.device:
    """Return the accelerator that torch finds, of whatever kind, or the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")
