"""Where the files lie that are installed with the code: experiments, launch files, batch scripts.

In a clone they stand at its root. A wheel holds them inside the package, in the folder that
`pyproject.toml` names.
"""

from pathlib import Path

PACKAGE = Path(__file__).parent
IN_A_WHEEL = PACKAGE / "shipped_files"


def shipped(name: str) -> Path:
    """Return the path of a shipped file or folder, such as `configs` or `slurm/train.sbatch`."""
    return (IN_A_WHEEL if IN_A_WHEEL.is_dir() else PACKAGE.parents[1]) / name


def find_experiment(path: Path) -> Path | None:
    """Return the shipped experiment or sweep with the file name of `path`; None if there is none.

    The ending `.yaml` may be left out.
    """
    names = {path.name, f"{path.name}.yaml"}
    found = (file for file in sorted(shipped("configs").rglob("*.yaml")) if file.name in names)
    return next(found, None)
