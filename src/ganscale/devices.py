"""The questions asked of a device: which one there is, and what PyTorch can do on it.

The GPU may be one of CUDA, ROCm (which PyTorch calls CUDA, too), Apple (MPS) or Intel (XPU), or
whatever else `torch.accelerator` finds. Importing this file, and asking it, allocates nothing on a
device.
"""

import os
from functools import lru_cache

import torch
from torch import Tensor

from ganscale.errors import GanscaleError

CHOSEN = "ACCELERATE_TORCH_DEVICE"
"""The environment variable by which Accelerate, and with it everything here, uses another device:
`cpu` leaves a GPU alone."""
HOST = torch.device("cpu")
PINNING = ("cuda", "xpu")
"""Kinds of devices for which PyTorch has pinned host memory. MPS has none: its memory is the
host's."""


def best_device() -> torch.device:
    """Return the accelerator that PyTorch finds, of whatever kind, or the CPU.

    Raises `GanscaleError` if the environment names a device that PyTorch does not know.
    """
    if chosen := os.environ.get(CHOSEN):
        try:
            return torch.device(chosen)
        except RuntimeError:
            raise GanscaleError(
                f"{CHOSEN}={chosen} in the environment is no device that PyTorch knows; use cpu, "
                f"mps or the like, or unset {CHOSEN}",
                every_rank=True,
            ) from None
    return torch.accelerator.current_accelerator(check_available=True) or HOST


def count_accelerators() -> int:
    """Return how many accelerators this process can see."""
    return torch.accelerator.device_count() if best_device() != HOST else 0


def name_of(device: torch.device) -> str:
    """Return the name of a GPU, as its maker calls it where PyTorch knows that; `cpu` for a CPU."""
    if device.type in PINNING:
        name: str = torch.get_device_module(device).get_device_name(device)
        return name
    if device.type == "mps" and hasattr(torch.backends.mps, "get_name"):
        return torch.backends.mps.get_name()
    return device.type


def accelerator_names() -> list[str]:
    """Return the name of each accelerator that this process can see."""
    kind = best_device().type
    return [name_of(torch.device(kind, i)) for i in range(count_accelerators())]


# -- arithmetic --------------------------------------------------------------------------------


def has_float64(device: torch.device) -> bool:
    """Return whether the device computes in float64; MPS and some of Intel's GPUs do not."""
    return device.type in ("cpu", "cuda", "meta") or _computes_in_float64(device.type)


@lru_cache
def _computes_in_float64(kind: str) -> bool:
    try:
        torch.ones(1, dtype=torch.float64, device=kind).log().item()
    except (RuntimeError, TypeError):
        return False
    return True


def float64_device(device: torch.device) -> torch.device:
    """Return where to compute in float64 what a device needs: there if it can, else on the host."""
    return device if has_float64(device) else HOST


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16; asking a CUDA device starts it."""
    if device.type == "mps":  # autocast would only warn, and compute in float32
        return torch.backends.mps.is_macos_or_newer(14, 0)
    if device.type in PINNING:
        return bool(torch.get_device_module(device).is_bf16_supported())
    return True


def seed_generator(device: torch.device, seed: int) -> None:
    """Seed PyTorch's own generators, of the host and of this device."""
    # torch.manual_seed would format a stack trace for each kind of device that is not there.
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


# -- memory and time ---------------------------------------------------------------------------


def pins_memory() -> bool:
    """Return whether copies from pinned host memory run while the host goes on."""
    return best_device().type in PINNING


def copy_to(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; from pinned memory, the host does not wait for it."""
    # Elsewhere the copy could read memory that the host has since given to something else.
    return tensor.to(device, non_blocking=device.type in PINNING)


def memory_of(device: torch.device) -> tuple[int, int] | None:
    """Return the free and the total bytes of a GPU's memory; None where PyTorch cannot tell."""
    try:
        return torch.accelerator.get_memory_info(device)
    except (RuntimeError, ValueError):  # MPS, in PyTorch 2.11
        return None


def peak_memory(device: torch.device) -> int | None:
    """Return the most bytes that this process's tensors have taken at once on a GPU.

    None where PyTorch does not count them.
    """
    try:
        return torch.accelerator.max_memory_allocated(device)
    except (RuntimeError, ValueError):
        return None


def forget_peak_memory(device: torch.device) -> None:
    """Let `peak_memory` count from now on."""
    if peak_memory(device) is not None:
        torch.accelerator.reset_peak_memory_stats(device)


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was told to; a CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
