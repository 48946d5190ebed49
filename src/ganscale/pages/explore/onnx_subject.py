"""The page's generator from an ONNX file, as a Space has it: no torch and no ganscale."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ganscale.monitoring.grids import show
from ganscale.pages.explore.subject import (
    CannotShowError,
    Choice,
    Facts,
    Floats,
    Labels,
    Shown,
)

MODEL, FACTS = "generator.onnx", "generator.json"


class OnnxSubject:
    """The generator in a folder that `ganscale export --format space` wrote."""

    def __init__(self, folder: Path):
        import onnxruntime  # not where `space.py` only writes the folder

        written = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        self._bits: int = written.pop("bits")
        lists = {name: tuple(written[name]) for name in ("class_names", "weights", "absent")}
        self.facts = Facts(**{**written, **lists})
        self._session = onnxruntime.InferenceSession(
            str(folder / MODEL), providers=["CPUExecutionProvider"]
        )

    def checkpoints(self) -> Sequence[str]:
        """Return no names: there is one generator."""
        return ()

    def generate(self, latents: Floats, labels: Labels | None, choice: Choice) -> Shown:
        """Return the images: see `Subject.generate`."""
        inputs = {"latents": latents}
        if labels is not None:
            inputs["labels"] = self._as_input(labels)
        (images,) = self._session.run(None, inputs)
        if not np.isfinite(images).all():
            raise CannotShowError("The generator's images contain NaN or infinite values.")
        most = 2**self._bits - 1
        scaled = ((images + 1) * np.float32(most / 2)).round().clip(0, most)
        pixels = scaled.astype(np.uint8 if self._bits == 8 else np.uint16)
        return show(pixels.transpose(0, 2, 3, 1))

    def logit(self, latents: Floats, labels: Labels | None, choice: Choice) -> float:
        """Refuse: there is no discriminator."""
        raise CannotShowError("There is no discriminator here.")

    def neighbours(self, latents: Floats, labels: Labels | None, choice: Choice) -> Shown:
        """Refuse: there is no dataset."""
        raise CannotShowError("There is no dataset here.")

    def _as_input(self, labels: Labels) -> Labels:
        """Return labels as the model takes them: shares of classes where it mixes them."""
        if labels.ndim == 2 or not self.facts.mixes_classes:
            return labels
        return np.eye(self.facts.classes or 0, dtype=np.float32)[labels]
