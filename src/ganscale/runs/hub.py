"""The Hugging Face Hub: generators go there and come from there, by its own client library.

`save_pretrained`, `from_pretrained` and `push_to_hub` mean what they mean in transformers and
diffusers. A generator is neither a `PyTorchModelHubMixin` nor a diffusers pipeline, because both
need the Python class of the network in order to load it: whoever loads one would have to install
or trust its author's code. Here the network is a list of PyTorch's own operations: see
`runs/graph.py`.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ganscale.data.shards.extras import import_hub
from ganscale.errors import GanscaleError

NAME = re.compile(r"[\w.-]+/[\w.-]+")
LATER = (429, 500, 502, 503, 504)  # the same request may succeed later


def download(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    """Return the folder of the hub's cache that holds these files of the model `user/name`.

    Raises `GanscaleError` if the hub does not give them, and says why.
    """
    hub = _library(f"{name} is not a folder, and to look for it on the Hugging Face Hub")
    refused = {
        401: "there is no such model, or it is private and you are not logged in (hf auth login)",
        403: "your token may not read it",
        404: "there is no such model" + (f" with the revision {revision}" if revision else ""),
    }
    what = f"{name} is not a folder, and cannot be loaded from the Hugging Face Hub"
    with _explained(hub, what, refused):
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(files)))


def upload(
    folder: Path,
    name: str,
    *,
    private: bool = False,
    token: str | None = None,
    keep: Sequence[str] = (),
) -> str:
    """Upload a folder as the model `user/name`, which is created if need be; return its address.

    All files are one commit: an upload that is interrupted changes nothing there. The files named
    in `keep` stay as they are on the hub if it has them. Raises `GanscaleError` if the hub refuses,
    or if the model should be `private` and exists already for everybody.
    """
    refuse_name(name)
    hub = _library("to upload to the Hugging Face Hub")
    client = hub.HfApi(token=token)
    owner = name.partition("/")[0]
    refused = {
        401: "it does not know who you are: log in with `hf auth login`, or set HF_TOKEN",
        403: f"your token may not write there: use one with the role `write` for {owner}",
        404: f"it knows nobody called {owner}, or HF_ENDPOINT is not the address of a hub",
        412: "it was changed there at the same time: upload it again",
    }
    what = f"{name} cannot be uploaded to the Hugging Face Hub"
    with _explained(hub, what, refused, token):
        address = client.create_repo(name, private=private or None, exist_ok=True)
        if private and not client.model_info(name).private:
            raise GanscaleError(
                f"{what}: it exists there and everybody may read it; make it private in its "
                "settings, choose another name, or leave out --private (private=True)"
            )
        kept = [file for file in keep if client.file_exists(name, file)]
        client.upload_folder(
            repo_id=name,
            folder_path=folder,
            ignore_patterns=kept,
            commit_message="Upload a generator of ganscale",
        )
    return str(address)


def refuse_name(name: str) -> None:
    """Raise `GanscaleError` for a name that is not that of a user or organisation, and a model."""
    if not NAME.fullmatch(name):
        raise GanscaleError(
            f"'{name}' cannot be the name of a model on the hub: it must be user/name, in letters, "
            "digits, '-', '_' and '.'"
        )


def push(
    run: Path,
    name: str,
    checkpoint: str,
    *,
    private: bool = False,
    license: str | None = None,
    trust_code: bool = False,
) -> str:
    """Upload a run's generator with its card, samples and experiment; return the address.

    What is there under that name is replaced, and stays in the hub's history.
    """
    from ganscale.runs.export import export

    refuse_name(name)
    _library("to upload to the Hugging Face Hub")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "model"
        export(run, checkpoint, "pretrained", folder, trust_code, license, published_as=name)
        return upload(folder, name, private=private)


def _library(purpose: str) -> Any:
    return import_hub(f"{purpose}, huggingface_hub is needed")


@contextmanager
def _explained(
    hub: Any, what: str, refused: dict[int, str], token: str | None = None
) -> Iterator[None]:
    """Turn any error of the hub's client in the body into one message that begins with `what`.

    `refused` says what a status of HTTP means here.
    """
    errors = hub.errors
    # HTTPError is that of the client's HTTP library, for a server that cannot be reached.
    kinds = [errors.HTTPError, OSError, ValueError]
    kinds += [errors.RevisionResolutionError] if hasattr(errors, "RevisionResolutionError") else []
    try:
        yield
    except tuple(kinds) as error:
        secrets = [secret for secret in (token, hub.get_token()) if secret]
        reason, temporary = _explain(error, refused, secrets)
        raise GanscaleError(f"{what}: {reason}", temporary=temporary) from None


def _explain(
    error: BaseException, refused: dict[int, str], secrets: Sequence[str]
) -> tuple[str, bool]:
    """Return what happened, and whether the same request may succeed later."""
    status = _status(error)
    said = _first_line(error)
    for secret in secrets:  # a server may repeat what it was sent
        said = said.replace(secret, "…")
    if status in refused:
        return refused[status], False
    if status is not None:
        later = status in LATER
        return f"it answers {status} ({said})" + ("; try again later" if later else ""), later
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return said, False
    return f"it cannot be reached ({said}); check the network, and HF_ENDPOINT if you set it", True


def _status(error: BaseException | None) -> int | None:
    """Return the status of HTTP that the server answered with, or None if it did not answer."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def _first_line(error: BaseException) -> str:
    """Return what an error says in one line, with the list that a line ending in a dot heads."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and isinstance(error, ValueError) and lines[0].startswith("Invalid metadata"):
        return " ".join(lines)
    return lines[0] if lines else type(error).__name__
