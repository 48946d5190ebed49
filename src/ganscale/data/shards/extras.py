"""File systems behind addresses, and the packages that they need."""

from typing import Any

from ganscale.errors import GanscaleError

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "hf": "hf"}
"""The extra of this package that brings what a kind of address needs."""


def open_filesystem(address: str) -> tuple[Any, str]:
    """Return fsspec's file system for an address, and the file's path in it.

    Raises `GanscaleError`, with the command that installs it, if a package is missing.
    """
    import fsspec  # seldom needed

    try:
        filesystem, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise GanscaleError(f"{address}: {_remedy(address, error)}", every_rank=True) from None
    except ValueError as error:  # an unknown scheme
        raise GanscaleError(f"{address}: cannot be opened ({error})", every_rank=True) from None
    return filesystem, path


def pip_line(extra: str) -> str:
    """Return the command that installs an extra of this package."""
    return f"pip install 'ganscale[{extra}]'"


def import_hub(without_it: str) -> Any:
    """Return the client of the Hugging Face Hub.

    Raises `GanscaleError` if it is not installed: `without_it` says what needs it, before the
    command that installs it.
    """
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise GanscaleError(f"{without_it}: {pip_line('hf')}") from None
    return huggingface_hub


def _remedy(address: str, error: ImportError) -> str:
    scheme = address.partition("://")[0]
    if scheme in EXTRAS:
        extra = EXTRAS[scheme]
        return f"{scheme}:// addresses need packages that are not installed: {pip_line(extra)}"
    return f"a package is missing: {error}"
