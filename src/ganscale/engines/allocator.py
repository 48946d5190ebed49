"""What becomes of memory that a step has freed: on a CPU the process keeps it for the next step."""

import ctypes
import os

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # glibc's malloc.h
NEVER = -1
DEFAULT_MMAP_MAX = 65536
HIGHEST_MMAP_THRESHOLD = 32 << 20  # mallopt(3): DEFAULT_MMAP_THRESHOLD_MAX on 64 bits
CHOICES = ("mmap_max", "mmap_threshold", "trim_threshold", "top_pad")
OWN_SETTINGS = tuple(f"MALLOC_{name.upper()}_" for name in CHOICES)
OWN_TUNABLES = tuple(f"glibc.malloc.{name}" for name in CHOICES)
_is_kept = False


def keep_freed_memory(device: torch.device) -> None:
    """Let glibc's allocator keep what a training on a CPU frees.

    By itself it returns large blocks to the kernel, which clears every page that the next step asks
    for; blocks of more than 32 MiB come from the kernel whatever its thresholds say. Nothing is
    changed on a GPU, with another C library, or where the environment has settings or an allocator
    of its own (mallopt(3)).
    """
    if device.type != "cpu" or _is_set_by_environment() or not _has_glibc():
        return
    global _is_kept
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    _is_kept = True


def give_back_freed_memory() -> None:
    """Return freed memory to the kernel, now and from now on, if it was kept.

    glibc does not tell what its thresholds were. By itself it raises them as blocks are freed, and
    does so no more once one was set: these are the highest that it would have reached.
    """
    global _is_kept
    if not _is_kept:
        return
    _is_kept = False
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
    libc.mallopt(M_MMAP_THRESHOLD, HIGHEST_MMAP_THRESHOLD)
    libc.mallopt(M_TRIM_THRESHOLD, 2 * HIGHEST_MMAP_THRESHOLD)
    libc.malloc_trim(0)


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
