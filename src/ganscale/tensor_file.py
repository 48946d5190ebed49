"""Writing of safetensors files that others may read as they may any new file here."""

import stat
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None
) -> None:
    """Write tensors, and text about them, to a file with the permissions of a new file.

    safetensors renames a temporary file, which its owner alone may read, whatever the umask is.
    A group's shared run folder would then be closed to the group.
    """
    path.touch()
    permissions = stat.S_IMODE(path.stat().st_mode)
    save_file(dict(tensors), path, metadata=None if about is None else dict(about))
    path.chmod(permissions)
