"""A trained generator, as a program uses it.

Loading one that was saved, and sampling it, needs torch and safetensors and nothing else of what
training needs: its network is read as a graph of torch operations, so no code of the network's
author is run, and none has to be installed.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from ganscale import devices, randomness
from ganscale.errors import GanscaleError
from ganscale.gan.projection import CANDIDATES, project
from ganscale.gan.sampling import (
    from_pixels,
    generate_from,
    interpolation,
    mix,
    refuse_unknown_class,
    run_generator,
    sample_labels,
    seed_labels,
)
from ganscale.gan.truncation import has_batch_norm, truncate, with_truncated_statistics
from ganscale.runs.graph import Graph
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
        self.device = torch.device(device) if device is not None else devices.best_device()
        self.network = network.to(self.device)
        self._standing: dict[float, nn.Module] = {}

    def __repr__(self) -> str:
        shape, of = self.about.image_shape, self.about.classes
        classes = f", {of:,} classes" if of else ""
        return f"<Generator {self.about.name}: images {shape}{classes}, on {self.device}>"

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
            from ganscale.runs.hub import download

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
        from ganscale.runs.hub import upload

        with tempfile.TemporaryDirectory() as folder:
            saved = self.save_pretrained(folder)
            return upload(saved, name, private=private, token=token, keep=(CARD,))

    # -- what it makes -------------------------------------------------------------------------

    def latents(
        self,
        number: int | None = None,
        seed: int = 0,
        *,
        seeds: Sequence[int] | None = None,
        truncation: float | None = None,
    ) -> Tensor:
        """Return the latents of samples, float32 (N, dim); the arguments are those of `sample`."""
        draws = (
            [(seed, range(_number(number)))] if seeds is None else [(s, range(1)) for s in seeds]
        )
        drawn = [randomness.latents(self.about, s, "sample", 0, r, self.device) for s, r in draws]
        return truncate(torch.cat(drawn), truncation, self.about.distribution)

    def sample(
        self,
        number: int | None = None,
        *,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        label: int | None = None,
        truncation: float | None = None,
        batch_size: int = 250,
    ) -> Tensor:
        """Return samples 0 … `number` - 1 of a seed, uint8 (number, C, H, W), in host memory.

        They are uint16 if the generator was trained on images of 16 bits.

        They are those of `ganscale sample --seed`. With `seeds` instead of a number, there is one
        image for each seed, its sample 0, whatever list the seed stands in: `--seeds`. Of a
        conditional generator, sample i of a seed, and the image of seed i, have class i mod the
        number of classes, or all have class `label`.

        `truncation` keeps the numbers of normal latents within ± this threshold, of which 2 is a
        mild and 0.5 a strong one: images are more typical, and more alike (Brock et al. 2019). See
        `ganscale.gan.truncation` for the formula, and for what it does to BatchNorm. Raises
        `GanscaleError` for a class or a threshold that cannot be.
        """
        classes = self.about.classes
        refuse_unknown_class(label, classes)
        latents = self.latents(number, seed, seeds=seeds, truncation=truncation)
        if seeds is None:
            labels = sample_labels(range(len(latents)), classes, label)
        else:
            labels = seed_labels(seeds, classes, label)
        network = self.network_for(truncation)
        return self._images(network, latents, labels, batch_size)

    def mix(
        self, rows: Sequence[int], columns: Sequence[int], *, label: int | None = None
    ) -> Tensor:
        """Return the images half way between two lists of seeds: uint8 (R, C, channels, H, W).

        A conditional generator makes them in the class of the row's seed, or in `label`.
        """
        refuse_unknown_class(label, self.about.classes)
        ends = self.latents(seeds=rows), self.latents(seeds=columns)
        labels = seed_labels(rows, self.about.classes, label)
        labels = tuple(of_rows.repeat_interleave(len(columns)) for of_rows in labels)
        images = self.images(mix(*ends, self.about.distribution), *labels)
        return images.view(len(rows), len(columns), *images.shape[1:])

    def interpolate(
        self, seeds: Sequence[int], *, steps: int = 12, label: int | None = None
    ) -> Tensor:
        """Return images on the way from each seed's first sample to the next one's.

        uint8 (steps · (len(seeds) - 1) + 1, C, H, W): `steps` for each pair of neighbours, and the
        last one. Normal latents are interpolated along a sphere (White 2016), uniform ones along a
        line. A conditional generator stays in the class of the first seed, or in `label`.
        """
        if len(seeds) < 2 or steps < 1:
            raise GanscaleError("an interpolation needs two seeds or more, and steps above 0")
        refuse_unknown_class(label, self.about.classes)
        ends = self.latents(seeds=seeds)
        between = interpolation(self.about.distribution)
        fractions = torch.arange(steps, device=self.device) / steps
        path = [between(a, b, t) for a, b in itertools.pairwise(ends.split(1)) for t in fractions]
        latents = torch.cat([*path, ends[-1:]])
        labels = seed_labels([seeds[0]] * len(latents), self.about.classes, label)
        return self.images(latents, *labels)

    def project(
        self, images: Tensor, *, seed: int = 0, label: int | None = None, steps: int = 500
    ) -> tuple[Tensor, Tensor | None]:
        """Return the latents whose images are nearest to given ones, for `images` to take.

        images: (N, C, H, W) of the generator's shape, in uint8 or uint16. Returns latents (N, dim)
        and, of a conditional generator, classes (N,): `label`, or whichever is nearest. They are
        those of `ganscale project --seed`; see `ganscale.gan.projection` for the search.
        """
        refuse_unknown_class(label, self.about.classes)
        shape = tuple(images.shape[1:])
        if shape != self.about.image_shape or images.dtype not in (torch.uint8, torch.uint16):
            wanted = ", ".join(map(str, self.about.image_shape))
            raise GanscaleError(
                f"images of shape {tuple(images.shape)} and {images.dtype} cannot be projected: "
                f"they must be (N, {wanted}), in uint8 or uint16"
            )
        rows = range(CANDIDATES)
        candidates = randomness.latents(self.about, seed, "projection", 0, rows, self.device)
        labels = sample_labels(rows, self.about.classes, label)
        found = project(
            lambda latents, classes: run_generator(self.network, latents, classes),
            from_pixels(images.to(self.device)),
            candidates,
            tuple(label.to(self.device) for label in labels),
            distribution=self.about.distribution,
            steps=steps,
        )
        return found.latents, found.labels[0] if found.labels else None

    def images(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        truncation: float | None = None,
        batch_size: int = 250,
    ) -> Tensor:
        """Return the images of latents (N, dim), and of labels (N,) int64 if it is conditional.

        Where `mixes_classes`, labels may also be mixtures: a share of each class, (N, classes)
        float32. `truncation` says at which threshold the latents were truncated: see `sample`.
        Returns uint8 (N, C, H, W), 0 … 255, in host memory. Raises `GanscaleError` if a pixel is
        NaN or infinite.
        """
        network = self.network_for(truncation)
        return self._images(network, latents, () if labels is None else (labels,), batch_size)

    @cached_property
    def mixes_classes(self) -> bool:
        """True if the network takes mixtures of classes: see `ganscale.networks.conditioning`.

        It is tried: the share 1 of a class must give the image of that class.
        """
        classes = self.about.classes
        if not classes or classes < 2:
            return False
        latents, labels = self.latents(2), torch.tensor([0, classes - 1])
        shares = torch.nn.functional.one_hot(labels, classes).float()
        try:
            with torch.no_grad():
                pure = run_generator(self.network, latents, (labels,))
                mixed = run_generator(self.network, latents, (shares,))
        except Exception:  # whatever a user's network raises for labels that are not integers
            return False
        return pure.shape == mixed.shape and torch.allclose(pure, mixed, atol=1e-4)

    def _images(
        self, network: nn.Module, latents: Tensor, labels: tuple[Tensor, ...], batch_size: int
    ) -> Tensor:
        latents = latents.to(self.device)
        batches = generate_from(network, latents, labels, batch_size, self.about.bits)
        return torch.cat(list(batches))

    def network_for(self, truncation: float | None) -> nn.Module:
        """Return the network, with the statistics of truncated latents where it has BatchNorm.

        They are computed at the first use of a threshold.
        """
        if truncation is None:
            return self.network
        if isinstance(self.network, Graph) and self.network.has_batch_norm:
            raise GanscaleError(
                f"truncation={truncation}: this generator has BatchNorm, whose statistics of "
                "truncated latents cannot be computed from a saved one; use Generator.from_run"
            )
        if not has_batch_norm(self.network):
            return self.network
        if truncation not in self._standing:
            self._standing[truncation] = with_truncated_statistics(
                self.network, self.about, self.about.classes, truncation, self.device
            )
        return self._standing[truncation]


def _number(number: int | None) -> int:
    if number is None:
        raise GanscaleError("say how many samples of one seed, or which seeds: sample(seeds=[…])")
    return number
