"""The environment of a run: versions and devices, for the report and for `ganscale doctor`."""

import os
import platform
from importlib import metadata

PACKAGES = ("torch", "torchvision", "accelerate", "deepspeed", "wandb", "webdataset", "numpy")


def environment() -> dict[str, str]:
    """Return the facts that may differ between two machines, by name."""
    import torch

    from ganscale import devices

    facts = {
        "ganscale": _version("ganscale"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "host": platform.node(),
        "CPU cores": f"{os.cpu_count()} ({torch.get_num_threads()} threads used)",
        "GPUs": ", ".join(devices.accelerator_names()) or "none",
        "CUDA": str(torch.version.cuda),
    }
    return facts | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
