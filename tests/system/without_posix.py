"""Trains in a process in which ganscale's own modules see what Windows has of `os` and `signal`.

Libraries see the real modules: they have code of their own for Windows, which cannot run here.
Arguments: the dataset, and the folder for the runs.
"""

import builtins
import errno
import importlib
import os
import pkgutil
import signal
import sys
import types
from pathlib import Path
from typing import Any

import pytest

OS = (
    *("O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "pread", "fork", "sync", "statvfs"),
    *("geteuid", "getuid", "sched_getaffinity", "posix_fallocate", "confstr", "mkfifo", "uname"),
)
SIGNALS = ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGALRM", "SIGCHLD")
MODULES = ("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty")


def without(module: types.ModuleType, names: tuple[str, ...]) -> types.ModuleType:
    copy = types.ModuleType(module.__name__)
    copy.__dict__.update({k: v for k, v in vars(module).items() if k not in names})
    return copy


def open_file(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """Open a file as Windows does: no folder, and none relative to one."""
    if dir_fd is not None:
        raise NotImplementedError("dir_fd unavailable on this platform")
    if Path(path).is_dir():
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return os.open(path, flags, mode)


def sync_file(descriptor: int) -> None:
    """Sync a file, which must be open for writing."""
    import fcntl

    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    os.fsync(descriptor)


SEEN: dict[str, Any] = {"os": without(os, OS), "signal": without(signal, SIGNALS)}
SEEN["os"].open, SEEN["os"].fsync = open_file, sync_file
real_import = builtins.__import__


def import_as_seen(name: str, globals: Any = None, *others: Any, **more: Any) -> Any:
    if str((globals or {}).get("__name__")).startswith("ganscale"):
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        if name in SEEN:
            return SEEN[name]
    return real_import(name, globals, *others, **more)


def main(digits: Path, folder: Path) -> None:
    builtins.__import__ = import_as_seen
    import ganscale

    for module in pkgutil.walk_packages(ganscale.__path__, "ganscale."):
        if not module.name.endswith(("__main__", "deepspeed_player")):
            importlib.import_module(module.name)
    from ganscale import files
    from ganscale.cli import main as command
    from ganscale.errors import GanscaleError
    from ganscale.runs import checkpoint
    from ganscale.training import preemption

    assert not hasattr(files.os, "pread")
    preemption.LOOK_EVERY_S = 0
    line = (
        f"name=tiny runs={folder} data.path={digits} data.reader=indexed data.workers=0 "
        "generator.network.hidden=[16] discriminator.network.hidden=[16] train.batch_size=8 "
        "monitoring.wandb=disabled monitoring.tensorboard=false monitoring.log_every=1"
    ).split()
    assert command(["train", "configs/mnist_mlp.yaml", *line, "train.steps=2"]) == 0
    run = folder / "tiny"
    real_step = preemption.StopRequest.agreed
    asked: list[int] = []

    def agreed(self: Any, step: int, *others: Any) -> Any:
        """Let the files that ask to save and to stop appear after the third step."""
        if step == 3:
            assert command(["save", str(run)]) == command(["stop", str(run)]) == 0
            asked.append(step)
        return real_step(self, step, *others)

    preemption.StopRequest.agreed = agreed  # type: ignore[method-assign]
    assert command(["train", "configs/mnist_mlp.yaml", *line, "train.steps=5"]) == 0
    assert asked == [3]
    known = checkpoint.list_finished(run / "checkpoints")
    assert [checkpoint.step_of(path) for path in known] == [2, 3]
    assert all(map(checkpoint.is_intact, known))
    assert command(["sample", str(run), "--grid", str(folder / "grid.png")]) == 0
    assert (folder / "grid.png").is_file()
    assert command(["runs", str(folder)]) == 0
    (folder / "link").symlink_to(digits)
    with pytest.raises(GanscaleError, match="passes through a link"):
        files.read_inside(folder, "link", "manifest.json")
    print("trained")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
