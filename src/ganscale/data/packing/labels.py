"""Label files beside the images: CSV or JSON, from file name to class."""

import csv
import io
import json
from pathlib import Path, PurePosixPath
from typing import Any

from ganscale.errors import GanscaleError
from ganscale.files import read_regular_file

MAX_BYTES = 1 << 31


def read_labels(path: Path) -> dict[str, str]:
    """Read a label file; return a dictionary from file name to class name.

    A CSV file has a header, the file name in its first column and the class in its second. A JSON
    file is `{"name": class}`, `[["name", class], …]`, or `{"labels": [["name", class], …]}` as in
    StyleGAN's `dataset.json`. Raises `GanscaleError` naming the file if it is none of these.
    """
    try:
        text = read_regular_file(path, MAX_BYTES).decode()
        if path.suffix.lower() == ".csv":
            rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
            return {row[0]: row[1] for row in rows if row}
        content: Any = json.loads(text)
        if isinstance(content, dict) and isinstance(content.get("labels"), list):
            content = content["labels"]
        pairs = content.items() if isinstance(content, dict) else content
        return {str(name): str(label) for name, label in pairs}
    except (OSError, ValueError, IndexError, TypeError, RecursionError, csv.Error) as error:
        raise GanscaleError(
            f"{path}: not a label file ({error}); give a CSV file of `name,class` with a header, "
            'or a JSON object {"name": class}'
        ) from None


def class_of(name: str, labels: dict[str, str], source: Path) -> str:
    """Return the class of a file, looked up by its path in the source, then by its bare name."""
    for key in (name, PurePosixPath(name).name):
        if key in labels:
            return labels[key]
    raise GanscaleError(f"{source}: '{name}' has no label in the label file")
