"""A run as a program sees it: its folder, and what can be read from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganscale.evaluation.scores import read_evaluations
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.runs.checkpoint_names import list_finished, step_of
from ganscale.runs.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

    from ganscale.library.generator import Generator


class Run(os.PathLike[str]):
    """A run that was trained, by this program or by the command; it stands for its folder.

    Everything is read from the folder when it is asked for, so the object also follows a run that
    another process is training. Raises `GanscaleError` if the folder does not hold a run.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self._files = RunFolder(Path(folder))
        self.experiment = self._files.experiment()
        """The experiment with which the run was last started."""

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"<Run {self.folder}: {self.step:,} of {self.experiment.train.steps:,} steps>"

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._files.path

    @property
    def step(self) -> int:
        """The steps that are done, as the newest checkpoint says; 0 without one."""
        known = list_finished(self._files.checkpoints)
        return step_of(known[-1]) if known else 0

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """What was logged, oldest first: `step`, `images` and the values by name.

        `pandas.DataFrame(run.metrics)` makes a table of it.
        """
        return read_metrics(self._files.metrics)

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The evaluations, oldest first: `step`, `values` by metric, and what they rest on."""
        return read_evaluations(self._files.evaluations)

    @property
    def pictures(self) -> list[Path]:
        """The grids of samples that were drawn while it trained, in order: PNG files."""
        return [path for _, path in self._files.sample_grids()]

    def generator(
        self,
        checkpoint: str = "latest",
        *,
        weights: str = "ema",
        trust_code: bool = False,
        device: str | torch.device | None = None,
    ) -> Generator:
        """Return the generator of a checkpoint: see `Generator.from_run`."""
        from ganscale.library.generator import Generator

        return Generator.from_run(
            self.folder, checkpoint, weights=weights, trust_code=trust_code, device=device
        )
