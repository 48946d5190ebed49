"""What a run reads and writes, as artifacts in W&B: dataset, checkpoints, final model."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

from ganscale.config import Experiment
from ganscale.errors import in_one_line
from ganscale.monitoring.trackers.tracker import Output
from ganscale.monitoring.trackers.wandb_connection import FINISH_TIMES
from ganscale.monitoring.trackers.wandb_settings import seconds_to_wait

KINDS = {"none": (), "final": ("model",), "checkpoints": ("checkpoint", "model")}
"""What becomes an artifact, by the value of `monitoring.wandb.artifacts`."""

log = logging.getLogger("ganscale")


class WandbArtifacts:
    """Hands files of a run to W&B from a thread of its own: no step waits for checksums or uploads.

    The files are hard links, so that W&B has them for as long as it needs them, whatever happens to
    the run's own. A failure is one warning.

    Args:
        run: W&B's run
        experiment: what trains; `monitoring.wandb` says what becomes an artifact
        folder: the run's folder, in which the links are made; those of an offline run stay there
            for `ganscale sync`
    """

    def __init__(self, run: Any, experiment: Experiment, folder: Path):
        self._run = run
        wanted = experiment.monitoring.wandb
        self._kinds = KINDS[wanted.artifacts]
        self._target = f"wandb-registry-{wanted.registry}/{experiment.name}"
        self._is_linked = wanted.registry is not None
        self._folder = folder / "wandb" / "artifacts"
        self._patience_s = FINISH_TIMES * seconds_to_wait(experiment)
        self._last: Thread | None = None
        self._is_abandoned = False

    def use_dataset(self, fingerprint: str, place: str) -> None:
        """Name the dataset as what the run reads; it is referred to, and not uploaded.

        `place` is the file that describes it, or its address. W&B records inputs online only.
        """
        if self._run.offline or not self._kinds:
            return

        def use() -> None:
            import wandb

            dataset = wandb.Artifact(
                f"dataset-{fingerprint[:16]}",
                "dataset",
                metadata={"fingerprint": fingerprint, "path": place},
            )
            # Of a folder, W&B would name each file.
            if "://" in place:
                dataset.add_reference(place, checksum=False)
            elif Path(place).is_file():
                dataset.add_reference(Path(place).resolve().as_uri(), checksum=False)
            self._run.use_artifact(dataset)

        self._submit("the dataset", use)

    def keep(self, output: Output) -> None:
        """Upload a checkpoint or a model; leave out a checkpoint while another is on its way."""
        if output.kind not in self._kinds:
            return
        if output.kind == "checkpoint" and self._is_busy():
            log.info(
                "W&B: the checkpoint of step %s is not uploaded, as the one before it still is",
                f"{output.step:,}",
            )
            return
        name = f"{output.kind}-{self._run.id}"
        staged = self._folder / f"{output.kind}-{output.step:08d}"
        shutil.rmtree(staged, ignore_errors=True)
        try:
            for place, path in output.files.items():
                _link(path, staged / place)
        except OSError as error:
            _warn(name, error)
            return

        def upload() -> None:
            import wandb

            artifact = wandb.Artifact(name, output.kind, metadata=output.metadata)
            artifact.add_dir(str(staged), policy="immutable", skip_cache=True)
            aliases = ["latest", f"step-{output.step}", *output.aliases]
            self._run.log_artifact(artifact, aliases=aliases)
            if self._run.offline:
                return
            artifact.wait()
            if output.kind == "model" and self._is_linked:
                self._run.link_artifact(artifact, self._target, aliases=list(output.aliases))
            shutil.rmtree(staged, ignore_errors=True)

        self._submit(name, upload)

    def close(self) -> None:
        """Wait until everything is uploaded, for a limited time."""
        if self._last is not None:
            self._last.join(self._patience_s)
        if self._is_busy():
            log.warning(
                "W&B has not taken all artifacts within %d s; the run ends without them",
                self._patience_s,
            )

    def abandon(self) -> None:
        """Wait for what is being uploaded, for a limited time, and upload nothing else."""
        self._is_abandoned = True
        self.close()

    def _is_busy(self) -> bool:
        return self._last is not None and self._last.is_alive()

    def _submit(self, what: str, act: Callable[[], None]) -> None:
        """Let a thread act, one after the other; none of them keeps the process from ending."""
        before = self._last

        def guarded() -> None:
            if before is not None:
                before.join()
            if self._is_abandoned:
                return
            try:
                act()
            except Exception as error:  # W&B has many kinds
                _warn(what, error)

        self._last = Thread(target=guarded, name="W&B artifacts", daemon=True)
        self._last.start()


def _warn(what: str, error: Exception) -> None:
    reason = in_one_line(error)
    log.warning("W&B does not take the artifact %s (%s); the run goes on", what, reason)


def _link(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, place)
    except OSError:  # a file system without hard links
        shutil.copy2(path, place)
