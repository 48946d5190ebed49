"""Waits for a device, so that a clock on the host can tell what its work took."""

import torch


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was told to; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
