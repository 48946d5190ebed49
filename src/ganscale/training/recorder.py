"""What a run writes while it trains: numbers, pictures, scores, warnings. Rank 0 has a recorder."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.data.shards.manifest import MANIFEST
from ganscale.errors import GanscaleError
from ganscale.evaluation.evaluator import Evaluator
from ganscale.evaluation.metrics.metric import METRICS
from ganscale.evaluation.samples import pixels
from ganscale.evaluation.scores import Scores, forget_after
from ganscale.gan.sampling import run_generator, sample_labels, to_pixels
from ganscale.monitoring.environment import environment
from ganscale.monitoring.health import Health
from ganscale.monitoring.pictures import columns_of_classes, save_grid
from ganscale.monitoring.trackers.chosen import uses_wandb
from ganscale.monitoring.trackers.run_trackers import Trackers
from ganscale.monitoring.trackers.tracker import JudgedSamples, Output
from ganscale.registry import log_name
from ganscale.runs.export import export
from ganscale.runs.gallery import draw_gallery, draw_video
from ganscale.runs.report import write_report
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sampler import Sampler
from ganscale.runs.trust import note_own_wandb

log = logging.getLogger("ganscale")


class Recorder:
    """Writes into a run folder and to the trackers."""

    def __init__(
        self,
        experiment: Experiment,
        folder: RunFolder,
        step: int,
        wandb_id: str | None,
        data_fingerprint: str,
    ):
        self._experiment = experiment
        self._folder = folder
        known = folder.tracker_ids() if step else {}
        if wandb_id is not None:
            known["wandb"] = wandb_id
        self._trackers = Trackers(
            experiment, folder.path, folder.metrics, step, known, _directions(experiment)
        )
        folder.note_tracker_ids(self._trackers.ids)
        manifest = Path(experiment.data.path) / MANIFEST
        place = str(manifest) if manifest.is_file() else experiment.data.path
        self._trackers.use_dataset(data_fingerprint, place)
        if self.wandb_id is not None:
            note_own_wandb(folder.path, self.wandb_id)
        self._health = Health()
        forget_after(folder.evaluations, step)

    @property
    def wandb_id(self) -> str | None:
        """The id by which W&B knows the run; None without W&B."""
        return self._trackers.ids.get("wandb")

    def numbers(self, step: int, numbers: dict[str, float]) -> None:
        """Track what was measured at `step`, and warn if it shows that something goes wrong."""
        self._trackers.log(step, step * self._experiment.train.batch_size, numbers)
        for alert in self._health.observe(numbers):
            log.warning("step %s · %s. %s", f"{step:,}", alert.title, alert.text)
            self._trackers.alert(alert.title, alert.text)

    def scores(self, step: int, scores: Scores) -> None:
        """Record and track the scores of `step`."""
        log.info("step %s · %s", f"{step:,}", scores)
        scores.record(self._folder.evaluations, step, step * self._experiment.train.batch_size)
        self.numbers(step, scores.values)

    def judged_samples(self, step: int, samples: JudgedSamples) -> None:
        """Track samples with what the discriminator says of them."""
        self._trackers.judged_samples(step, samples)

    def picture(self, step: int, network: nn.Module, device: torch.device) -> Path:
        """Draw a grid of samples, always from the same latents; return its file."""
        experiment, classes = self._experiment, self._experiment.data.classes
        rows = range(experiment.monitoring.pictures)
        latents = randomness.latents(
            experiment.latent, experiment.seed, "pictures", 0, rows, device
        )
        with torch.no_grad():  # NaN is drawn too: the loop says what to do about it
            images = run_generator(network, latents, sample_labels(rows, classes))
        path = self._folder.sample_grid(step)
        save_grid(
            pixels(to_pixels(images, experiment.data.bits)),
            path,
            columns_of_classes(len(rows), classes),
        )
        self._trackers.picture(step, "samples", path)
        return path

    def checkpoint(self, step: int, path: Path, metrics: dict[str, float]) -> None:
        """Let trackers keep a version of a checkpoint that was just written."""
        is_best = self._folder.best_checkpoint(self._experiment.evaluation) == path
        self._trackers.keep(
            Output(
                "checkpoint",
                step,
                self._folder.files_with_checkpoint(path),
                ("best",) if is_best else (),
                {"step": step, **metrics},
            )
        )

    def _keep_model(self, step: int, name: str) -> None:
        """Let trackers keep a version of the final generator, in its pretrained form."""
        with TemporaryDirectory(prefix=".model-", dir=self._folder.path) as work:
            model = Path(work) / "model"
            try:
                export(self._folder.path, name, "pretrained", model, trust_code=True)
            except (GanscaleError, OSError) as error:
                log.warning("the final generator does not become an artifact: %s", error)
                return
            files = {str(p.relative_to(model)): p for p in model.rglob("*") if p.is_file()}
            aliases = ("best",) if name == "best" else ()
            self._trackers.keep(Output("model", step, files, aliases, {"step": step}))

    def abandon(self) -> None:
        """Close the trackers of a run that has failed."""
        self._trackers.abandon()

    def finish(self, step: int, evaluator: Evaluator | None, is_resumed: bool = False) -> None:
        """Close the trackers and write the report; draw the best checkpoint of a completed run.

        `is_resumed` says that a run before its last step will go on by itself.
        """
        experiment, folder = self._experiment, self._folder
        if step == experiment.train.steps:
            best = folder.best_checkpoint(experiment.evaluation)
            # This very process trains with that code.
            sampler = Sampler(folder.path, "best" if best else "latest", trust_code=True)
            for path in [*draw_gallery(sampler, evaluator), *draw_video(folder)]:
                self._trackers.picture(step, f"gallery_{path.stem}", path)
            if experiment.monitoring.wandb.artifacts != "none" and uses_wandb(experiment):
                self._keep_model(step, "best" if best else "latest")
        if step == experiment.train.steps or is_resumed:
            self._trackers.finish()
        else:
            self._trackers.stop()
        write_report(folder, experiment, environment())
        log.info("samples %s · report %s", folder.samples, folder.report)


def _directions(experiment: Experiment) -> dict[str, bool]:
    """Return whether the lower value is better, for each score of which one is."""
    if experiment.evaluation.every is None:
        return {}
    names = [*METRICS.built_in(), *experiment.evaluation.metrics]
    lower = {log_name(name): METRICS.get(name).lower_is_better for name in names}
    return {name: better for name, better in lower.items() if better is not None}
