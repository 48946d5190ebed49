"""Lay out a project: an experiment, and the files that launch it anywhere.

The files are copies of those that are installed with the code, so no clone is needed.
"""

import argparse
import re
import shlex
import shutil
import sysconfig
from pathlib import Path

from ganscale import files
from ganscale.commands.arguments import path
from ganscale.errors import GanscaleError
from ganscale.shipped import shipped

COPIED = ("configs", "launch/accelerate", "launch/node.sh", "slurm")
PATH_SCRIPT = "launch/path.sh"
WRITTEN = {
    "README.md": "launch/project/README.md",
    "experiment.yaml": "launch/project/experiment.yaml",
    ".gitignore": "launch/project/gitignore",
}
"""The files in which the word NAME stands for the project's name, and where they ship."""
NOT_COPIED = "slurm/site.sh"  # the settings of a clone's own cluster
NEXT = """\
{folder}: a project of {number} files. Next:
{cd}  ganscale pack digits data/digits --size 28
  ganscale train experiment.yaml
{readme} goes on from there: images of your own, several GPUs, a cluster.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder."""
    parser.add_argument("folder", type=path, help="folder of the project, e.g. digits or .")


def run(options: argparse.Namespace) -> None:
    """Write the project's files; raises `GanscaleError` if one of them exists already."""
    folder: Path = options.folder
    content = _content(_name(folder))
    taken = [name for name in content if (folder / name).exists() or (folder / name).is_symlink()]
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise GanscaleError(
            f"{folder}: already has {taken[0]}{more}, and nothing was written; "
            "name another folder, or move what is there"
        )
    for name, text in content.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(file, text)
        if text.startswith(b"#!"):
            file.chmod(file.stat().st_mode | 0o111)
    here = folder.resolve() == Path.cwd()
    print(
        NEXT.format(
            folder=folder,
            number=len(content),
            cd="" if here else f"  cd {shlex.quote(str(folder))}\n",
            readme=folder / "README.md",
        ),
        end="",
    )


def _name(folder: Path) -> str:
    """Return the folder's name as an experiment may be called."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", folder.resolve().name).strip("._-") or "experiment"


def _content(name: str) -> dict[str, bytes]:
    """Return the content of each file of the project, by its path."""
    content = {
        target: shipped(source).read_text(encoding="utf-8").replace("NAME", name).encode()
        for target, source in WRITTEN.items()
    }
    root = shipped("")
    sources = [file for part in COPIED for file in (shipped(part), *shipped(part).rglob("*"))]
    names = {str(file.relative_to(root)): file for file in sources if file.is_file()}
    content |= {name: file.read_bytes() for name, file in names.items() if name != NOT_COPIED}
    content[PATH_SCRIPT] = _path_script().encode()
    return content


def _path_script() -> str:
    """Return the script that puts the environment of this program on PATH."""
    return f"""\
# Puts the environment in which ganscale is installed first on PATH; the scripts beside this file
# and in slurm/ source it. `ganscale init` has written it: change it when the environment moves.
# shellcheck shell=bash

export PATH={shlex.quote(str(_programs()))}:"$PATH"
"""


def _programs() -> Path:
    """Return the folder of this environment's programs, or of the user's if ganscale is there."""
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    folders = [Path(sysconfig.get_path("scripts", scheme)) for scheme in schemes]
    return next((f for f in folders if shutil.which("ganscale", path=str(f))), folders[0])
