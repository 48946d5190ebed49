"""`ganscale export --format space`: the page as a folder to upload to Hugging Face Spaces.

The folder holds the page's own files, which need neither torch nor ganscale: `COPIED`. They are
copied as they are, but for the package that they import each other from.
"""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import torch
import yaml

from ganscale.gan.sampling import seed_labels
from ganscale.gan.truncation import has_batch_norm
from ganscale.library.generator import Generator
from ganscale.pages.explore.onnx_subject import FACTS, MODEL
from ganscale.pages.explore.saved_subject import NO_MIXING, describe_images
from ganscale.pages.explore.subject import Facts
from ganscale.runs import checkpoint
from ganscale.runs.export import EXAMPLE_BATCH, SAMPLES, about, new_export, write_onnx
from ganscale.runs.sampler import Sampler

GRADIO = "6.31.0"
"""The version of Gradio that the page was tested with."""
REQUIREMENTS = (f"gradio=={GRADIO}", "numpy>=1.26", "onnxruntime>=1.18", "pillow>=10")
PACKAGE = "explore"
HERE = Path(__file__).parent
COPIED = (
    HERE.parents[1] / "monitoring/grids.py",
    *(
        HERE / name
        for name in (
            *("answers.py", "latents.py", "markup.py", "onnx_subject.py", "page.py"),
            *("pictures.py", "subject.py", "views.py", "cells.js", "page.css", "save.js"),
        )
    ),
)
OWN_IMPORT = re.compile(r"^from ganscale\.(?:pages\.explore|monitoring)(?=[. ])", re.MULTILINE)
NO_TRUNCATION = (
    "No truncation: this generator has BatchNorm, and its statistics for truncated latents cannot "
    "be computed from an ONNX file."
)
APP = '''\
"""The page of a generator that ganscale trained. It computes on the CPU with ONNX Runtime."""

from pathlib import Path

from explore.onnx_subject import OnnxSubject
from explore.page import build_page, looks

demo = build_page(OnnxSubject(Path(__file__).parent))

if __name__ == "__main__":
    demo.launch(footer_links=[], run_history=False, ssr_mode=False, **looks())
'''
README = """\
---
{front}---
# {title}

{what}, trained with ganscale. The page shows its images by seed and walks from one to another.

![uncurated samples](samples.png)

To publish it, make a Space with the SDK Gradio on the Hugging Face Hub and upload this folder:
`hf upload USER/NAME . . --repo-type space`. To look at it here, install what `requirements.txt`
names, then `python app.py`.
"""


def export_space(
    run: Path, name: str, out: Path | None, trust_code: bool = False, license: str | None = None
) -> Path:
    """Write a checkpoint's EMA generator with the page into `out`; return the page's `app.py`.

    Without `out`, it is a folder in the run's own for exports. Raises `GanscaleError` if the folder
    is not empty, or without onnxscript.
    """
    sampler = Sampler(run, name, trust_code=trust_code)
    with new_export(sampler, "space", out) as folder:
        facts = _write_model(sampler, folder)
        written = {**asdict(facts), "bits": sampler.bits}
        (folder / FACTS).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
        _copy_page(folder / PACKAGE)
        (folder / "app.py").write_text(APP, encoding="utf-8")
        (folder / "requirements.txt").write_text("\n".join(REQUIREMENTS) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(_readme(facts, license), encoding="utf-8")
        sampler.save_grid(SAMPLES, folder / "samples.png")
    return folder / "app.py"


def _write_model(sampler: Sampler, folder: Path) -> Facts:
    """Write the generator as ONNX, which takes mixtures of classes if the network does."""
    known = about(sampler.experiment)
    generator = Generator(sampler.generator.requires_grad_(False), known, "cpu")
    mixes = generator.mixes_classes
    inputs = [torch.zeros(EXAMPLE_BATCH, known.dim)]
    for labels in seed_labels(range(EXAMPLE_BATCH), known.classes):
        shares = torch.nn.functional.one_hot(labels, known.classes or 0).float()
        inputs.append(shares if mixes else labels)
    write_onnx(generator.network, tuple(inputs), folder / MODEL)
    generator.network.to(sampler.device)
    names = checkpoint.read_state(sampler.checkpoint).class_names if known.classes else ()
    truncates = not has_batch_norm(sampler.generator)
    facts = Facts(
        name=known.name,
        what=f"A generator of {describe_images(known)}",
        dim=known.dim,
        distribution=known.distribution,
        classes=known.classes,
        class_names=names,
        mixes_classes=mixes,
        truncates=truncates,
    )
    absent = () if truncates else (NO_TRUNCATION,)
    return replace(facts, absent=absent if mixes or not known.classes else (*absent, NO_MIXING))


def _copy_page(folder: Path) -> None:
    folder.mkdir()
    (folder / "__init__.py").write_text('"""The page, and what it needs."""\n', encoding="utf-8")
    for path in COPIED:
        text = path.read_text(encoding="utf-8")
        text = OWN_IMPORT.sub(f"from {PACKAGE}", text) if path.suffix == ".py" else text
        (folder / path.name).write_text(text, encoding="utf-8")


def _readme(facts: Facts, license: str | None) -> str:
    title = re.sub(r"[^\w .,()-]+", "-", facts.name)[:60]
    header = {"title": title, "emoji": "🎲", "colorFrom": "indigo", "colorTo": "gray"}
    header |= {"sdk": "gradio", "sdk_version": GRADIO, "app_file": "app.py"}
    header |= {"license": license} if license else {}
    front = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return README.format(front=front, title=title, what=facts.what)
