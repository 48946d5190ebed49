"""`ganscale evaluate`: all ranks score checkpoints, and rank 0 updates what the run shows."""

import logging
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ganscale.config import Experiment
from ganscale.config.experiment import EACH_MISTAKE
from ganscale.config.mistakes import explain
from ganscale.devices import best_device
from ganscale.engines.distributed import Ranks, tensors_from_rank_0
from ganscale.engines.launcher import Launcher
from ganscale.errors import GanscaleError
from ganscale.evaluation.scores import Evaluated, Scores, describe_scores, read_evaluations
from ganscale.monitoring.environment import environment
from ganscale.monitoring.progress import tracked
from ganscale.monitoring.time_left import describe_time_left
from ganscale.networks import first_generator
from ganscale.runs import checkpoint
from ganscale.runs.checkpoint_names import list_finished, step_of
from ganscale.runs.gallery import draw_gallery
from ganscale.runs.report import write_report
from ganscale.runs.run_evaluator import open_evaluator
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sampler import Sampler
from ganscale.runs.scores_in_wandb import tell_wandb
from ganscale.runs.trust import refuse_foreign_code

EVERY = re.compile(r"every[ :]([1-9][0-9]{0,17})")

T = TypeVar("T")

log = logging.getLogger("ganscale")


def evaluate(
    run: Path, name: str, changes: dict[str, Any], trust_code: bool = False
) -> tuple[Path, Scores]:
    """Score the checkpoint called `name`; return its path and the scores.

    The scores are recorded in the run folder and shown in its report and, if this user trained the
    run, in W&B. The gallery is drawn again for the best checkpoint, which may have changed.
    `changes` are values that replace some of the experiment's `evaluation`; None leaves one as it
    is, and metrics are added to it. All ranks of a launcher must call this.
    """
    if names_several(name):
        raise GanscaleError(
            f"'{name}' names several checkpoints, and only one can be scored here; "
            "`ganscale evaluate` scores several",
            every_rank=True,
        )
    scoring = Scoring(run, name, changes, trust_code)
    (path,) = scoring.checkpoints
    scores, line = scoring.score(path)
    scoring.show([line])
    return path, scores


def evaluate_several(
    run: Path, names: str, changes: dict[str, Any], trust_code: bool = False, again: bool = False
) -> list[Evaluated]:
    """Score the checkpoints that `find_checkpoints` finds; return an evaluation of each.

    Each is recorded as soon as it is scored. One that was scored in the same way before is not
    scored again, unless `again` says so. The rest is as in `evaluate`.
    """
    scoring = Scoring(run, names, changes, trust_code)
    found = {} if again else scoring.find_scored()
    missing = [path for path in scoring.checkpoints if step_of(path) not in found]
    if found:
        log.info(
            "%d of %d checkpoints have been scored before", len(found), len(scoring.checkpoints)
        )
    started = time.monotonic()
    for done, path in enumerate(tracked(missing, len(missing), "evaluating checkpoints"), 1):
        _, line = scoring.score(path)
        found[line["step"]] = line
        left = (time.monotonic() - started) / done * (len(missing) - done)
        when = f" · {describe_time_left(left, datetime.now())}" if done < len(missing) else ""
        log.info("%s · %s%s", path.name, describe_scores(line), when)
    lines = [found[step] for step in sorted(found)]
    scoring.show(lines)
    return lines


def names_several(names: str) -> bool:
    """Return whether `--checkpoint` may name more than one checkpoint."""
    return names == "all" or "," in names or EVERY.fullmatch(names) is not None


def find_checkpoints(folder: RunFolder, names: str, experiment: Experiment) -> list[Path]:
    """Return the checkpoints that `names` stands for, by their steps.

    `names` is `all`, `every:N` (those at multiples of N steps) or names between commas, such as
    `latest`, `best` or a step. Damaged ones are left out, unless they are named.
    """
    every = EVERY.fullmatch(names)
    if names != "all" and every is None:
        named = (part.strip() for part in names.split(","))
        found = {folder.find_checkpoint(name, experiment.evaluation) for name in named}
        return sorted(found, key=step_of)
    steps = int(every[1]) if every else 1
    known = list_finished(folder.checkpoints)
    if not known:
        raise GanscaleError(f"{folder.checkpoints}: no checkpoints in it")
    wanted = [path for path in known if step_of(path) % steps == 0]
    intact = [path for path in wanted if checkpoint.is_intact(path)]
    for path in set(wanted).difference(intact):
        log.warning("%s is damaged: it is left out", path)
    if not intact:
        there = ", ".join(path.name for path in known)
        raise GanscaleError(f"{folder.checkpoints}: no checkpoint is '{names}'; it holds {there}")
    return intact


class Scoring:
    """One rank of those that score checkpoints of a run, with one evaluator for all of them."""

    def __init__(self, run: Path, names: str, changes: dict[str, Any], trust_code: bool):
        launcher = Launcher.from_environment()
        self.folder = RunFolder(run)
        try:
            self.experiment = self.folder.experiment()
            scored = _with_evaluation(self.experiment, changes)
        except GanscaleError as error:
            error.every_rank = True
            raise
        self._ranks = Ranks.started_by(launcher)
        self._device = best_device()
        if self._ranks.world_size > 1:
            from ganscale.engines.accelerators import connect  # imports Accelerate

            self._device = connect(launcher, self.experiment.train.timeout)
        self._trust_code = trust_code
        self.checkpoints = self._on_rank_0(lambda: self._find(names))
        self._generator = first_generator(scored).to(self._device).eval()
        self._evaluator = open_evaluator(
            scored, self.folder, self.checkpoints[0], self._ranks, self._device
        )

    def find_scored(self) -> dict[int, Evaluated]:
        """Return the newest evaluation of each checkpoint that is scored in the same way."""

        def find() -> dict[int, Evaluated]:
            lines = read_evaluations(self.folder.evaluations)
            steps = set(map(step_of, self.checkpoints))
            alike = (line for line in lines if self._evaluator.has_scored(line))
            return {line["step"]: line for line in alike if line["step"] in steps}

        return self._on_rank_0(find)

    def score(self, path: Path) -> tuple[Scores, Evaluated]:
        """Score a checkpoint; return the scores and the line by which rank 0 records them."""
        weights = tensors_from_rank_0(lambda: checkpoint.read_weights(path, "ema"), self._device)
        assert weights is not None
        with checkpoint.explain_mismatch(path):
            self._generator.load_state_dict(weights)
        scores = self._evaluator.scores(self._generator)
        return scores, self._on_rank_0(lambda: self._record(path, scores))

    def show(self, lines: Sequence[Evaluated]) -> None:
        """Draw the gallery and write the report, and tell W&B of these evaluations."""
        self._on_rank_0(lambda: self._show(lines))

    def _on_rank_0(self, act: Callable[[], T]) -> T:
        """Return what `act` gives on rank 0, on every rank, or raise what it raises there."""
        main = self._ranks.is_main
        return self._ranks.agree_in_time(lambda: [act()] if main else [])[0][0]

    def _find(self, names: str) -> list[Path]:
        self.folder.refuse_links()
        if not self._trust_code:
            refuse_foreign_code(self.folder.path, self.experiment)
        return find_checkpoints(self.folder, names, self.experiment)

    def _record(self, path: Path, scores: Scores) -> Evaluated:
        state = checkpoint.read_state(path)
        return scores.record(self.folder.evaluations, state.step, state.images)

    def _show(self, lines: Sequence[Evaluated]) -> None:
        best = self.folder.best_checkpoint(self.experiment.evaluation)
        shown = Sampler(
            self.folder.path,
            (best or self.checkpoints[-1]).name,
            trust_code=self._trust_code,
        )
        log.info("drawing the gallery of %s", shown.checkpoint.name)
        draw_gallery(shown, self._evaluator)
        log.info("writing %s", self.folder.report)
        write_report(self.folder, self.experiment, environment())
        wandb_id = checkpoint.read_state(self.checkpoints[-1]).wandb_id
        tell_wandb(self.folder, self.experiment, wandb_id, lines)


def _with_evaluation(experiment: Experiment, changes: dict[str, Any]) -> Experiment:
    """Return the experiment with some values of its `evaluation` replaced, and metrics added.

    A file of weights belongs to its features, and is left out with them.
    """
    values = experiment.model_dump(mode="json")
    given = {key: value for key, value in changes.items() if value is not None}
    if given.get("features", experiment.evaluation.features) != experiment.evaluation.features:
        given = {"weights": None, **given}
    asked = [*values["evaluation"]["metrics"], *given.pop("metrics", ())]
    values["evaluation"] |= {**given, "metrics": list(dict.fromkeys(asked))}
    try:
        return Experiment.model_validate(values, context=EACH_MISTAKE)
    except ValidationError as error:
        raise GanscaleError(explain(error.errors()[0], values)) from None
