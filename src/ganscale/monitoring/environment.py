"""The environment of a run: versions and devices, for the report and for `ganscale doctor`."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "torchvision", "accelerate", "deepspeed", "wandb", "webdataset", "numpy")


def environment() -> dict[str, str]:
    """Return the facts that may differ between two machines, by name."""
    import torch

    from ganscale import devices

    facts = {
        "ganscale": ganscale_version(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "host": platform.node(),
        "CPU cores": f"{os.cpu_count()} ({torch.get_num_threads()} threads used)",
        "GPUs": ", ".join(devices.accelerator_names()) or "none",
        "CUDA": str(torch.version.cuda),
    }
    return facts | {name: _version(name) for name in PACKAGES}


def ganscale_version() -> str:
    """Return the installed version of ganscale."""
    return _version("ganscale")


def ganscale_commit() -> str | None:
    """Return the commit of the clone that ganscale runs from; None where it is installed."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
