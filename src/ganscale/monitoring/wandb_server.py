"""What is asked of W&B's server directly: whether it answers, and what it has of a run."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from ganscale.errors import GanscaleError

LATER = (408, 429, 500, 502, 503, 504)  # the same request may succeed later
REFUSED = (401, 403)
POLL_S = 0.5
HISTORY = """
query GanscaleHistory($project: String, $entity: String, $run: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $run, missingOk: true) {
      historyLineCount eventsLineCount logLineCount historyTail wandbConfig(keys: ["t"])
    }
  }
}
"""
STOPPED = """
query GanscaleStopped($project: String, $entity: String, $run: String!) {
  project(name: $project, entityName: $entity) { run(name: $run) { stopped } }
}
"""
FILES = """
query GanscaleFiles($project: String!, $entity: String, $run: String!, $after: String) {
  project(name: $project, entityName: $entity) {
    run(name: $run) {
      files(after: $after, first: 500) {
        edges { node { name sizeBytes } }
        pageInfo { endCursor hasNextPage }
      }
    }
  }
}
"""


@dataclass(frozen=True)
class OnServer:
    """What W&B already has of a run.

    Attributes:
        exists: whether the run has begun there
        last_step: the newest step in its history; -1 without one
        history_lines, stats_lines, console_lines: how many lines each has
        files: the size of each file by its name, in bytes
    """

    exists: bool = False
    last_step: int = -1
    history_lines: int = 0
    stats_lines: int = 0
    console_lines: int = 0
    files: dict[str, int] = field(default_factory=dict)


def is_logged_in() -> bool:
    """Return whether W&B has a key of the user's, without asking its server or the user."""
    import wandb

    # Else `login` would ask the server for the user's name, however long that takes.
    wandb.setup(wandb.Settings(silent=True))
    try:
        return wandb.login(prompt=False, verify=False)
    except wandb.errors.Error:  # what is set cannot be a key
        return False


class Server:
    """W&B's server, as the user is logged in to it.

    Args:
        timeout: seconds to wait for each answer

    Raises `GanscaleError` if the user is not logged in.
    """

    def __init__(self, timeout: float):
        import wandb

        if not is_logged_in():
            raise GanscaleError(
                "you are not logged in to W&B: type `wandb login`, or set WANDB_API_KEY"
            )
        settings = wandb.setup().settings
        self.address: str = settings.base_url
        self._key: str = settings.api_key or ""
        self._timeout = timeout

    def known(self, project: str, entity: str | None, wandb_id: str) -> OnServer:
        """Return what the server has of a run; no entity means the user's own."""
        about = {"project": project, "entity": entity or None, "run": wandb_id}
        try:
            bucket = ((self._ask(HISTORY, about).get("model") or {}).get("bucket")) or {}
            # W&B's own program asks the same: a sweep's run is there before it has begun.
            if "t" not in json.loads(bucket.get("wandbConfig") or "{}"):
                return OnServer()
            tail = json.loads(bucket.get("historyTail") or "[]")
            return OnServer(
                exists=True,
                last_step=int(json.loads(tail[-1])["_step"]) if tail else -1,
                history_lines=int(bucket.get("historyLineCount") or 0),
                stats_lines=int(bucket.get("eventsLineCount") or 0),
                console_lines=int(bucket.get("logLineCount") or 0),
                files=self._files(about),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._nonsense() from None

    def is_stopped(self, project: str, entity: str | None, wandb_id: str) -> bool:
        """Return whether a run was asked to stop, by its page or by a sweep."""
        about = {"project": project, "entity": entity or None, "run": wandb_id}
        run = (self._ask(STOPPED, about).get("project") or {}).get("run") or {}
        return run.get("stopped") is True

    def has_step(self, project: str, entity: str | None, wandb_id: str, step: int) -> bool:
        """Return whether the server's history of a run reaches a step, or soon does."""
        deadline = time.monotonic() + self._timeout
        while self.known(project, entity, wandb_id).last_step < step:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def _files(self, about: dict[str, Any]) -> dict[str, int]:
        found: dict[str, int] = {}
        after = None
        while True:
            answer = self._ask(FILES, {**about, "after": after})
            files = ((answer.get("project") or {}).get("run") or {}).get("files")
            if not files:
                return found
            for edge in files["edges"]:
                found[edge["node"]["name"]] = int(edge["node"]["sizeBytes"])
            if not files["pageInfo"]["hasNextPage"]:
                return found
            after = files["pageInfo"]["endCursor"]

    def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the `data` of the answer to a GraphQL query."""
        import requests

        try:
            response = requests.post(
                f"{self.address}/graphql",
                json={"query": query, "variables": variables},
                auth=("api", self._key),
                timeout=self._timeout,
            )
        except requests.RequestException as error:
            stalls = isinstance(error, requests.Timeout)
            why = f"has not answered for {self._timeout:g} s" if stalls else "cannot be reached"
            raise self._later(why) from error
        if response.status_code in REFUSED:
            raise GanscaleError(
                f"{self.address} refuses your key for W&B ({response.status_code}): type `wandb "
                "login --relogin`, or ask whether your account may write to the run's project"
            )
        if response.status_code in LATER:
            raise self._later(f"answers with the error {response.status_code}")
        try:
            answer = response.json()
            if response.ok and isinstance(answer["data"], dict):
                data: dict[str, Any] = answer["data"]
                return data
        except (ValueError, TypeError, KeyError):
            pass
        raise self._nonsense(response.status_code)

    def _later(self, why: str) -> GanscaleError:
        return GanscaleError(
            f"{self.address} {why}; nothing is lost: type the same command again later",
            temporary=True,
        )

    def _nonsense(self, status: int = 200) -> GanscaleError:
        """Return an error about a server that is not W&B's, or a page that a proxy has put in."""
        return GanscaleError(
            f"{self.address} does not answer as W&B does (status {status}); check WANDB_BASE_URL, "
            "and whether the network asks for a login of its own",
            temporary=True,
        )
