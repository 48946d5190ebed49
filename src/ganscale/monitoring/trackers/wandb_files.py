"""The files that W&B gets of a run: its experiment and, where the user saves code, its own code."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ganscale.config import Experiment
from ganscale.config.load import to_yaml
from ganscale.config.registered import custom_code

if TYPE_CHECKING:
    import wandb

EXPERIMENT = "experiment.yaml"
CODE = Path("code", "of_the_experiment")


def save_files(run: "wandb.Run", experiment: Experiment) -> None:
    """Save the experiment as a file and, if W&B saves code at all, the files of code that it names.

    W&B saves code where the user's account, `WANDB_SAVE_CODE` or its settings say so, and not where
    `WANDB_DISABLE_CODE` is set (https://docs.wandb.ai/models/app/features/panels/code). Nothing
    else of any folder is uploaded.
    """
    kept = Path(run.dir)
    (kept / EXPERIMENT).write_text(to_yaml(experiment), encoding="utf-8")
    saved = [kept / EXPERIMENT]
    if run.settings.save_code:
        for file in _files_of_code(experiment):
            copy = kept / CODE / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            saved.append(copy)
    for path in saved:
        run.save(str(path), base_path=run.dir, policy="now")


def _files_of_code(experiment: Experiment) -> Iterator[Path]:
    """Yield each Python file that the experiment names by its path."""
    places = dict.fromkeys(name.rpartition(":")[0] for _, name, _ in custom_code(experiment))
    yield from (Path(place) for place in places if place.endswith(".py"))
