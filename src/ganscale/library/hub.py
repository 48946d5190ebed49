"""The Hugging Face Hub: generators go there and come from there, by its own client library."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ganscale.errors import GanscaleError


def download(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    """Return the folder of the hub's cache that holds these files of the model `user/name`."""
    hub = _library(f"{name} is no folder, and to look for it on the Hugging Face Hub")
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(files)))
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        raise GanscaleError(
            f"{name} is no folder, and the Hugging Face Hub does not give it: {_reason(error)}"
        ) from None


def upload(folder: Path, name: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a folder as the model `user/name`, which is created if need be; return its address."""
    hub = _library("to upload to the Hugging Face Hub")
    client = hub.HfApi(token=token)
    try:
        address = client.create_repo(name, private=private, exist_ok=True)
        client.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Upload a generator of ganscale"
        )
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        raise GanscaleError(
            f"the Hugging Face Hub does not take {name}: {_reason(error)}; `hf auth login` or "
            "HF_TOKEN says who you are"
        ) from None
    return str(address)


def _library(purpose: str) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise GanscaleError(
            f"{purpose}, huggingface_hub is needed: pip install 'ganscale[hf]'"
        ) from None
    return huggingface_hub


def _reason(error: BaseException) -> str:
    """Return the first line of what the hub said, which holds no token."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def push(
    run: Path, name: str, checkpoint: str, private: bool = False, trust_code: bool = False
) -> str:
    """Upload a run's generator with its card, samples and experiment; return the address."""
    from ganscale.runs.export import export

    _library("to upload to the Hugging Face Hub")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "model"
        export(run, checkpoint, "pretrained", folder, trust_code)
        return upload(folder, name, private=private)
