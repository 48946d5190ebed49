"""The model card of an exported generator: what it is, its use, its scores and its data.

Its metadata follow the Hugging Face Hub's specification of a model card, with the scores as a
`model-index`; they are written here with PyYAML, so that an export needs nothing of the hub.
"""

import html
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ganscale import __version__
from ganscale.config import Experiment
from ganscale.evaluation.scores import (
    Evaluated,
    deciding_values,
    describe_scores,
    features_of,
    read_evaluations,
    title_of,
)
from ganscale.registry import is_custom, short_name
from ganscale.runs import checkpoint
from ganscale.runs.pretrained import LIBRARY, PIPELINE_TAG, TAGS, About, describe_call
from ganscale.runs.sampler import Sampler
from ganscale.terminal import printable

HUB_DATASET = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)")
DEFINED_BY_INCEPTION = "inception"  # the features for which FID and the others were published


def model_card(
    sampler: Sampler, about: About, path: Path, license: str | None, published_as: str
) -> str:
    """Return the card of a generator that was written to `path`, in Markdown with metadata.

    `license` is the weights' licence as the hub abbreviates it, such as `cc-by-4.0`; without one,
    the card says that none was given. `Generator.from_pretrained(published_as)` loads it.
    """
    experiment = sampler.experiment
    state = checkpoint.read_state(sampler.checkpoint)
    evaluations = _newest_evaluations(sampler, state.step)
    metadata = _metadata(experiment, evaluations, license)
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    _, height, width = about.image_shape
    labels = f", torch.arange(16) % {about.classes}" if about.classes else ""
    usage = USAGE.get(path.name, USAGE.get(path.suffix, "")).format(
        file=path.name, dim=about.dim, labels=labels, name=published_as, bits=about.bits
    )
    kind = "class-conditional " if about.classes else ""
    kind += short_name(experiment.generator.network.architecture)
    training = _training(experiment, state)
    rows = "\n".join(f"| {key} | {_plain(value)} |" for key, value in training.items())
    scores = "\n".join(f"- {_plain(describe_scores(line))}" for line in evaluations)
    return CARD.format(
        front=front,
        title=_plain(experiment.name),
        what=f"A {_plain(kind)} generator of {height}×{width} images",
        version=__version__,
        call=f"`{path.name}` {describe_call(about)}",
        usage=usage,
        training=rows,
        scores=scores or "This checkpoint was not evaluated.",
        licence=_licence(license),
    )


def _newest_evaluations(sampler: Sampler, step: int) -> list[Evaluated]:
    """Return the newest evaluation of a checkpoint for each kind of features."""
    lines = [line for line in read_evaluations(sampler.folder.evaluations) if line["step"] == step]
    return list({features_of(line): line for line in lines}.values())


def _metadata(
    experiment: Experiment, evaluations: Iterable[Evaluated], license: str | None
) -> dict[str, Any]:
    names = [_name(dataset) for dataset in _datasets(experiment)]
    on_the_hub = [match[1] for path in experiment.data.places if (match := HUB_DATASET.match(path))]
    architecture = experiment.generator.network.architecture
    built_in = [] if is_custom(architecture) else [architecture]
    metadata: dict[str, Any] = {"license": license} if license else {}
    metadata |= {"library_name": LIBRARY, "pipeline_tag": PIPELINE_TAG}
    metadata |= {"tags": [*TAGS, *built_in, *names]}
    if on_the_hub:
        metadata["datasets"] = on_the_hub
    results = [
        {
            "task": {"type": PIPELINE_TAG, "name": "Unconditional image generation"},
            "dataset": {"name": _name(line["real_set"]), "type": " and ".join(names)},
            "metrics": _metrics(line),
        }
        for line in evaluations
    ]
    if results:
        metadata["model-index"] = [{"name": experiment.name, "results": results}]
    return metadata


def _metrics(evaluation: Evaluated) -> list[dict[str, Any]]:
    """Return each score with what it depends on.

    FID alone means Inception's features to every reader and leaderboard, so those of another
    network are a metric of another type.
    """
    features = features_of(evaluation)
    suffix, on = "", ""
    if features != DEFINED_BY_INCEPTION:
        suffix, on = f"_{short_name(features)}", f" on {evaluation['features']}"
    return [
        {
            "type": _name(f"{name}{suffix}"),
            "value": value,
            "name": _name(f"{title_of(name)}{on}"),
            "args": {"generated": evaluation["samples"], "real": evaluation["real_samples"]},
        }
        for name, value in deciding_values(evaluation).items()
    ]


def _datasets(experiment: Experiment) -> list[str]:
    """Return the names of the datasets: those of their folders, without the way to them."""
    folders = [PurePosixPath(path) for path in experiment.data.places]
    named = [folder.parent if folder.suffix == ".tar" else folder for folder in folders]
    return [printable(folder.name) or "unknown" for folder in named]


def _training(experiment: Experiment, state: checkpoint.State) -> dict[str, str]:
    """Return what the generator was trained with, and how long."""
    penalties = " and ".join(penalty.name for penalty in experiment.objective.penalties)
    loss = short_name(experiment.objective.loss)
    return {
        "Steps": f"{state.step:,}",
        "Images seen": f"{state.images:,}",
        "Batch size": f"{experiment.train.batch_size:,}",
        "Dataset": f"{' and '.join(_datasets(experiment))} (fingerprint {state.data_fingerprint})",
        "Loss": f"{loss} with {penalties}" if penalties else loss,
        "Discriminator": short_name(experiment.discriminator.network.architecture),
        "Precision": experiment.train.precision,
        "Weights": "the moving average (EMA) of the generator",
    }


def _licence(license: str | None) -> str:
    if license is None:
        return "No licence was given for these weights: ask whoever published them."
    return f"The weights are licensed under `{license}`."


def _name(text: str) -> str:
    """Return a name for metadata, on one line and without markup that a page might interpret."""
    return re.sub(r"[^\w .,:;%()/+×-]+", "-", " ".join(printable(text).split()))


def _plain(text: str) -> str:
    """Escape a text for Markdown, because a path or a score may contain HTML or a link."""
    shown = html.escape(" ".join(printable(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]~|])", r"\\\1", shown)


CARD = """\
---
{front}---
# {title}

{what}, trained with ganscale {version}.

![uncurated samples](samples.png)

## Use

{call}

```python
{usage}
```

## Intended use and limits

Research on generative models, and pictures for people who know that they are generated. The
generator knows only what its dataset shows, with that dataset's gaps and biases, and it may
reproduce parts of the dataset's images. Do not use it to deceive.

## Training

| | |
|---|---|
{training}

`experiment.yaml` holds the whole experiment: `ganscale train experiment.yaml` trains it again.

## Scores

{scores}

## Licence

{licence} The licence of the dataset also determines what the images may be used for.
"""
USAGE = {
    ".safetensors": """\
import torch
from safetensors.torch import load_file
from ganscale.config.load import load
from ganscale.networks import first_generator

generator = first_generator(load("experiment.yaml"))
generator.load_state_dict(load_file("{file}"))
images = generator.eval()(torch.randn(16, {dim}){labels})""",
    "model.safetensors": """\
from ganscale import Generator

generator = Generator.from_pretrained("{name}")
images = generator.sample(16, seed=0)  # uint{bits} (16, C, H, W)""",
    ".pt2": """\
import torch

generator = torch.export.load("{file}").module()
images = generator(torch.randn(16, {dim}){labels})""",
    ".onnx": """\
import onnxruntime
import torch

session = onnxruntime.InferenceSession("{file}")
inputs = [torch.randn(16, {dim}){labels}]
names = [i.name for i in session.get_inputs()]
(images,) = session.run(None, dict(zip(names, (i.numpy() for i in inputs))))""",
}
