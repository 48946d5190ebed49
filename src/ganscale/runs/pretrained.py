"""A generator as files that any program can read: nothing in them is code.

The folder holds `config.json`, what a program has to know of the generator; `model.safetensors`,
its weights; and `graph.json`, its operations. Reading them needs torch and safetensors.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganscale.errors import GanscaleError
from ganscale.runs.graph import EXAMPLE_BATCH, Graph, trace
from ganscale.tensor_file import save_tensors

CONFIG, WEIGHTS, GRAPH = "config.json", "model.safetensors", "graph.json"
CARD = "README.md"
LIBRARY, PIPELINE_TAG, TAGS = "ganscale", "unconditional-image-generation", ("gan",)
"""What the Hugging Face Hub finds a generator by."""
FORMAT = 1


@dataclass(frozen=True)
class About:
    """What a program has to know of a generator."""

    name: str
    """Name of the run that trained it."""
    dim: int
    """Length of a latent."""
    distribution: str
    """Distribution of the latents: `normal`, or `uniform` on [-1, 1]."""
    image_shape: tuple[int, int, int]
    """Channels, height and width."""
    classes: int | None = None
    """Number of classes; None for an unconditional generator."""
    bits: int = 8
    """Bits of a value of its samples: 8 or 16."""


def write_pretrained(network: nn.Module, about: About, folder: Path) -> Path:
    """Write a generator in evaluation mode into a folder; return the path of its weights.

    A model card is written too, unless the folder has one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(network, Graph):
        graph, weights = network.written()
    else:
        graph, weights = trace(copy.deepcopy(network).cpu(), _example(about))
    save_tensors(weights, folder / WEIGHTS, {"format": "pt"})
    (folder / GRAPH).write_text(json.dumps(graph) + "\n", encoding="utf-8")
    config = {"format": FORMAT, "library_name": LIBRARY, **asdict(about)}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if not (folder / CARD).exists():  # someone may have written a better one
        (folder / CARD).write_text(_brief_card(about), encoding="utf-8")
    return folder / WEIGHTS


def read_pretrained(folder: Path) -> tuple[Graph, About]:
    """Return a generator that was written into a folder, and what it is.

    Raises `GanscaleError` if the folder holds none, or one with an operation that is not known to
    do nothing but compute.
    """
    about = _read_about(folder)
    try:
        graph = json.loads((folder / GRAPH).read_text(encoding="utf-8"))
        return Graph(graph, load_file(folder / WEIGHTS)), about
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise GanscaleError(f"{folder} is not a saved generator: {error!r}") from None


def read_pretrained_weights(folder: Path) -> tuple[dict[str, Tensor], About]:
    """Return the weights of a saved generator, without its operations, and what it is."""
    about = _read_about(folder)
    try:
        weights: dict[str, Tensor] = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise GanscaleError(f"{folder} is not a saved generator: {error!r}") from None
    return weights, about


def _read_about(folder: Path) -> About:
    try:
        config: Mapping[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config["format"] != FORMAT:
            raise GanscaleError(
                f"{folder / CONFIG} has format {config['format']}, which this version of ganscale "
                f"does not read (it reads {FORMAT}); install a newer one"
            )
        written = {"bits": 8, **config}  # earlier versions had no other
        known = {name: written[name] for name in About.__dataclass_fields__}
        return About(**known | {"image_shape": tuple(known["image_shape"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GanscaleError(
            f"{folder} is not a saved generator: {CONFIG} is missing or damaged ({error!r})"
        ) from None


def describe_call(about: About) -> str:
    """Say what a generator's network takes and returns, to follow its name in a sentence."""
    channels, height, width = about.image_shape
    labels = f" and labels (N,) int64, 0 … {about.classes - 1}" if about.classes else ""
    noise = "standard normal" if about.distribution == "normal" else "uniform on [-1, 1]"
    return (
        f"takes latents (N, {about.dim}) float32, {noise}{labels}, and returns\n"
        f"images (N, {channels}, {height}, {width}) float32 in [-1, 1]."
    )


def _brief_card(about: About) -> str:
    """Return a model card with what is known without the run: nothing of its training or scores."""
    _, height, width = about.image_shape
    return f"""\
---
library_name: {LIBRARY}
pipeline_tag: {PIPELINE_TAG}
tags: [{", ".join(TAGS)}]
---
# {" ".join(about.name.split())}

A generator of {height}×{width} images, trained with ganscale. Its network {describe_call(about)}

```python
from ganscale import Generator

generator = Generator.from_pretrained(".")  # this folder, or its name on the hub
images = generator.sample(16, seed=0)  # uint{about.bits} (16, C, H, W)
```
"""


def _example(about: About) -> tuple[Tensor, ...]:
    latents = torch.zeros(EXAMPLE_BATCH, about.dim)
    if about.classes is None:
        return (latents,)
    return latents, torch.arange(EXAMPLE_BATCH) % about.classes
