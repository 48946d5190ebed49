"""The user's own Python files as modules, so that other processes can import their classes too.

A file is the module `ganscale.custom_code.<its path in hexadecimal digits>`. Worker processes that
unpickle an object of a class in it import that module by its name, and this package finds the file.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType


def import_file(path: Path) -> ModuleType:
    """Return the module that a file defines; a process executes each file once."""
    return importlib.import_module(f"{__name__}.{str(path.resolve()).encode().hex()}")


class _FileFinder(importlib.abc.MetaPathFinder):
    """Finds the file of a module of this package."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load the file, or None for a module of another package."""
        package, _, digits = fullname.rpartition(".")
        if package != __name__:
            return None
        file = bytes.fromhex(digits).decode()
        return importlib.util.spec_from_file_location(fullname, file)


sys.meta_path.append(_FileFinder())
