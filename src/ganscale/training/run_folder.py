"""The folder of a run, and whether it is this experiment's."""

from pathlib import Path

from ganscale import experiment as experiment_file
from ganscale.config import Experiment
from ganscale.data.manifest import write_atomically
from ganscale.errors import GanscaleError
from ganscale.training import checkpoint

EXPERIMENT = "experiment.yaml"


class RunFolder:
    """Where everything of one run lies."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.report = self.path / "report.html"

    @classmethod
    def of(cls, experiment: Experiment) -> "RunFolder":
        """The folder that an experiment names."""
        return cls(Path(experiment.runs) / experiment.name)

    def experiment(self) -> Experiment:
        """The experiment that the run was last started with."""
        path = self.path / EXPERIMENT
        if not path.is_file():
            raise GanscaleError(f"{self.path}: not a run folder ({EXPERIMENT} is missing)")
        return experiment_file.load(path)

    def claim(self, experiment: Experiment) -> None:
        """Make the folder this experiment's; refuse where another one has trained in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        if checkpoint.listed(self.checkpoints):
            changed = experiment_file.differences(self.experiment(), experiment)
            if changed:
                lines = "\n".join(f"  {k}: {old!r} there, {new!r} now" for k, old, new in changed)
                raise GanscaleError(
                    f"{self.path} holds a run of another experiment:\n{lines}\n"
                    "Give this one a name of its own (name=…), go back to the values there, or "
                    "remove the folder."
                )
        text = experiment_file.to_yaml(experiment)
        write_atomically(self.path / EXPERIMENT, text.encode())
