"""`ganscale export`: write a generator for use without ganscale, with a model card."""

import io
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ganscale.config import Experiment
from ganscale.config.load import to_yaml
from ganscale.errors import GanscaleError
from ganscale.files import refuse_links, write_output
from ganscale.runs.card import model_card
from ganscale.runs.pretrained import CARD, About, write_pretrained
from ganscale.runs.sampler import Sampler
from ganscale.tensor_file import save_tensors

SAMPLES = 64
EXAMPLE_BATCH = 2  # for tracing; the exported generator accepts any batch size

log = logging.getLogger("ganscale")


class ExportedGenerator(nn.Module):
    """A generator whose images are clamped to [-1, 1]."""

    def __init__(self, generator: nn.Module):
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents (N, dim), and labels (N,) int64 if conditional, to images (N, C, H, W)."""
        conditions = () if labels is None else (labels,)
        images: Tensor = self.generator(latents, *conditions).clamp(-1, 1)
        return images


def export(
    run: Path,
    name: str,
    kind: str,
    out: Path | None,
    trust_code: bool = False,
    license: str | None = None,
    published_as: str = ".",
) -> Path:
    """Write a checkpoint's EMA generator and a model card into `out`; return the model's path.

    Without `out`, they go into the run's own folder for exports of this kind. The card states the
    weights' `license`, and says that `published_as` loads them. Raises `GanscaleError` if the
    folder is not empty.
    """
    sampler = Sampler(run, name, trust_code=trust_code)
    with new_export(sampler, kind, out) as folder:
        path = WRITERS[kind](sampler, folder)
        (folder / "experiment.yaml").write_text(to_yaml(sampler.experiment), encoding="utf-8")
        sampler.save_grid(SAMPLES, folder / "samples.png")
        card = model_card(sampler, about(sampler.experiment), path, license, published_as)
        (folder / CARD).write_text(card, encoding="utf-8")
    return path


@contextmanager
def new_export(sampler: Sampler, kind: str, out: Path | None) -> Iterator[Path]:
    """Make the folder of an export, and remove it again if writing it fails.

    Without `out`, it is in the run's own folder for exports of this kind. Raises `GanscaleError` if
    it is not empty.
    """
    folder = out or sampler.folder.exports / kind
    _refuse_links_on_the_way(sampler.folder.path.absolute(), folder.absolute())
    if folder.exists() and any(folder.iterdir()):
        raise GanscaleError(f"{folder} is not empty; name another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        log.info("writing the generator of %s as %s", sampler.checkpoint.name, kind)
        yield folder
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _refuse_links_on_the_way(run: Path, folder: Path) -> None:
    """Raise `GanscaleError` if a link in the run folder could lead the export elsewhere.

    The sampler has already checked the run folder itself.
    """
    for parent in folder.parents:
        if parent.is_relative_to(run) and parent.is_dir():
            refuse_links(parent)


def _inputs(sampler: Sampler) -> tuple[Tensor, ...]:
    latents = torch.zeros(EXAMPLE_BATCH, sampler.experiment.latent.dim)
    labels = sampler.labels(range(EXAMPLE_BATCH))
    return (latents, *labels)


def _any_number(inputs: tuple[Tensor, ...]) -> tuple[dict[int, torch.export.Dim], ...]:
    """Declare that the first dimension of each input is the same arbitrary batch size."""
    batch = torch.export.Dim("batch", min=1)
    return tuple({0: batch} for _ in inputs)


def _module(sampler: Sampler) -> nn.Module:
    return ExportedGenerator(sampler.generator.cpu()).eval().requires_grad_(False)


def _write_safetensors(sampler: Sampler, folder: Path) -> Path:
    path = folder / "generator.safetensors"
    weights = {key: value.contiguous() for key, value in sampler.generator.state_dict().items()}
    about = {"format": "pt", "experiment": json.dumps(sampler.experiment.model_dump(mode="json"))}
    save_tensors(weights, path, about)
    return path


def _write_torch_export(sampler: Sampler, folder: Path) -> Path:
    path = folder / "generator.pt2"
    inputs = _inputs(sampler)
    program = torch.export.export(_module(sampler), inputs, dynamic_shapes=_any_number(inputs))
    # If torch wrote the file itself, a full disk would abort the process.
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return write_output(path, buffer.getvalue())


def _write_onnx(sampler: Sampler, folder: Path) -> Path:
    return write_onnx(sampler.generator.cpu(), _inputs(sampler), folder / "generator.onnx")


def write_onnx(generator: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> Path:
    """Write a generator on the CPU as ONNX, for any number of rows; return the path.

    inputs: examples of latents (N, dim), and of labels if it is conditional.
    """
    try:
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError:
        raise GanscaleError("ONNX export needs onnxscript: pip install 'ganscale[onnx]'") from None
    with warnings.catch_warnings():
        # Latents and labels share the axis, and torch.onnx can name it only once.
        warnings.filterwarnings("ignore", "# The axis name: batch will not be used")
        torch.onnx.export(
            ExportedGenerator(generator).eval().requires_grad_(False),
            inputs,
            path,
            input_names=["latents", "labels"][: len(inputs)],
            output_names=["images"],
            dynamic_shapes=_any_number(inputs),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return path


def _write_pretrained(sampler: Sampler, folder: Path) -> Path:
    return write_pretrained(
        sampler.generator.requires_grad_(False), about(sampler.experiment), folder
    )


def about(experiment: Experiment) -> About:
    """Return what a program has to know of an experiment's generator."""
    return About(
        experiment.name,
        experiment.latent.dim,
        experiment.latent.distribution,
        experiment.image_shape,
        experiment.data.classes,
        experiment.data.bits,
    )


WRITERS: dict[str, Callable[[Sampler, Path], Path]] = {
    "safetensors": _write_safetensors,
    "torch.export": _write_torch_export,
    "onnx": _write_onnx,
    "pretrained": _write_pretrained,
}
