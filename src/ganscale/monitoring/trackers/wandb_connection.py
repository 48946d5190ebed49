"""W&B's server may be unreachable, stall, refuse or die: the run goes on without it.

What the server has not got is in the run folder, from where `ganscale sync` uploads it.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ganscale.errors import GanscaleError, in_one_line
from ganscale.monitoring.wandb_server import Server

if TYPE_CHECKING:
    import wandb

FINISH_TIMES = 10
"""How often the time to wait for the server passes before a run ends without all uploaded."""

log = logging.getLogger("ganscale")
Started = TypeVar("Started")


def bounds(timeout: float) -> dict[str, Any]:
    """Return the settings of W&B that keep a run from waiting for its server for ever.

    Args:
        timeout: seconds to wait for the server when the run starts
    """
    finish = {"finish_timeout": timeout * FINISH_TIMES, "finish_timeout_raises": True}
    return {"init_timeout": timeout, "x_graphql_timeout_seconds": timeout, **finish}


def waits_for_sync(run: Path, wandb_id: str) -> bool:
    """Return whether earlier parts of a run have not been uploaded.

    W&B's steps only go up: what a later part uploads could not be preceded by the earlier ones.
    """
    name = f"wandb/offline-run-*-{wandb_id}/run-{wandb_id}.wandb"
    folders = {run, Path(os.environ.get("WANDB_DIR") or run)}
    parts = [part for folder in folders for part in folder.glob(name)]
    return any(not part.with_name(f"{part.name}.synced").exists() for part in parts)


def start_or_log_offline(start: Callable[[str], Started], mode: str, run: Path) -> Started:
    """Start W&B in this mode or, if its server does not let it, offline.

    Args:
        start: starts W&B in a mode, and returns it
        mode: `online`, `offline` or another one of W&B's
        run: the run folder
    """
    import wandb

    try:
        return start(mode)
    except (wandb.errors.Error, OSError) as error:
        is_of_a_file = isinstance(error, OSError) and error.filename is not None
        if mode == "offline" or is_of_a_file:
            raise
        log.warning(
            "W&B cannot be reached (%s); logging offline: `ganscale sync %s` uploads it later",
            in_one_line(error),
            run,
        )
        # Its program still holds the run's id, and would refuse to start it again.
        wandb.teardown()
        return start("offline")


def finish_in_time(
    started: "wandb.Run", run: Path, last_step: int, timeout: float, exit_code: int = 0
) -> None:
    """Let W&B upload what is left, for a limited time, and say if that was not all.

    Args:
        started: the run of W&B
        run: the run folder
        last_step: the last step that was logged
        timeout: seconds to wait for an answer of the server
        exit_code: 0 for a run that has ended well
    """
    import wandb

    is_online = not started.offline and not started.disabled
    about = (started.project, started.entity, started.id)
    try:
        started.finish(exit_code=exit_code)
        is_whole = not is_online or Server(timeout).has_step(*about, last_step)
    except (TimeoutError, GanscaleError, wandb.errors.Error, OSError):
        is_whole = False
    if not is_whole:
        log.warning("W&B has not got all of this run; `ganscale sync %s` uploads the rest", run)
