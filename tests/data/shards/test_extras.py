"""A missing package is named with the command that installs it."""

import importlib
import sys

import pytest

from ganscale.data.shards.extras import EXTRAS, open_filesystem
from ganscale.errors import GanscaleError

PACKAGES = {"s3": "s3fs", "gcs": "gcsfs", "hf": "huggingface_hub"}


@pytest.mark.parametrize("scheme", EXTRAS)
def test_the_extra_of_an_address_is_named(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = importlib.import_module("fsspec.registry")
    monkeypatch.setattr(registry, "_registry", {})  # what earlier tests have opened
    monkeypatch.setitem(sys.modules, PACKAGES[EXTRAS[scheme]], None)
    with pytest.raises(GanscaleError) as caught:
        open_filesystem(f"{scheme}://bucket/set/manifest.json")
    assert f"pip install 'ganscale[{EXTRAS[scheme]}]'" in str(caught.value)


def test_a_kind_of_address_that_nothing_opens() -> None:
    with pytest.raises(GanscaleError, match="nonsense://x: cannot be opened"):
        open_filesystem("nonsense://x")
