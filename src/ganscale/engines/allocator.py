"""What becomes of memory that a step has freed: on a CPU the process keeps it for the next step."""

import ctypes
import os

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # bytes; glibc refuses a larger one
LARGEST_TRIM_THRESHOLD = 2**31 - 1  # bytes, an int
OWN_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
OWN_TUNABLES = tuple(f"glibc.malloc.{name}" for name in ("mmap_threshold", "trim_threshold"))


def keep_freed_memory(device: torch.device) -> None:
    """Let glibc's allocator keep what a training on a CPU frees, up to 2 GiB.

    By itself it returns large blocks to the kernel, which clears every page that the next step asks
    for. Blocks of more than 32 MiB are still returned. Nothing is changed on a GPU, with another C
    library, or where the environment has settings or an allocator of its own (mallopt(3)).
    """
    if device.type != "cpu" or _is_set_by_environment() or not _has_glibc():
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    libc.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM_THRESHOLD)


def _is_set_by_environment() -> bool:
    """Return whether the user has chosen how memory is freed, or another allocator."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return (
        any(name in os.environ for name in OWN_SETTINGS)
        or any(name in tunables for name in OWN_TUNABLES)
        or "malloc" in os.environ.get("LD_PRELOAD", "")  # jemalloc, tcmalloc, mimalloc
    )


def _has_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # Windows; macOS; musl
        return False
