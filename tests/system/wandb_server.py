"""As much of W&B's server as its sweep agents ask for, on this machine."""

import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import yaml

from tests.servers import running
from tests.system.processes import ROOT
from tests.wandb_server_base import WandbHandler, WandbServer


class SweepServer(WandbServer):
    """Hands out one trial after another of a sweep, `command` and the values of its parameters."""

    def __init__(
        self, command: list[str], values: list[dict[str, Any]], is_stop_due: Callable[[int], bool]
    ):
        super().__init__(Handler)
        self.command = command
        self.values = values
        self.lock = threading.Lock()
        self.given = 0
        self.is_stop_due = is_stop_due
        self.stopped: set[str] = set()

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """To a GraphQL query of an agent."""
        if "createAgent" in query:
            return {"createAgent": {"agent": {"id": "agent"}}}
        if "agentHeartbeat" in query:
            running = any(json.loads(variables["runState"]).values())
            commands = json.dumps(self.stop_commands() if running else self.commands())
            return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": commands}}
        if "GanscaleStopped" in query:
            return {"project": {"run": {"stopped": variables["run"] in self.stopped}}}
        if "sweep(" in query:
            config = yaml.safe_dump({"method": "grid", "command": self.command})
            sweep = {"id": "1", "name": "sweep", "method": "grid", "state": "RUNNING"}
            runs = {"edges": []}
            return {"project": {"sweep": {**sweep, "config": config, "runs": runs}}}
        viewer = {"id": "1", "username": "u", "entity": "e", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer}

    def stop_commands(self) -> list[dict[str, Any]]:
        """To stop the trial that is running, as soon as that is due."""
        trial = f"trial{self.given}"
        if trial in self.stopped or not self.is_stop_due(self.given):
            return []
        self.stopped.add(trial)
        return [{"type": "stop", "run_id": trial}]

    def commands(self) -> list[dict[str, Any]]:
        """The next trial, or that there is none."""
        with self.lock:
            if self.given == len(self.values):
                return [{"type": "exit"}]
            values = {key: {"value": value} for key, value in self.values[self.given].items()}
            self.given += 1
            return [{"type": "run", "run_id": f"trial{self.given}", "program": "", "args": values}]


class Handler(WandbHandler, BaseHTTPRequestHandler):
    server: SweepServer

    def do_POST(self) -> None:
        content = self.content()
        found = self.path == "/graphql"
        answer = {}
        if found:
            asked = json.loads(content)
            answer = {"data": self.server.answer(asked["query"], asked.get("variables") or {})}
        body = json.dumps(answer).encode()
        self.reply(body, 200 if found else 404)


def serving_sweep(
    command: list[str],
    values: list[dict[str, Any]],
    is_stop_due: Callable[[int], bool] = lambda trial: False,
) -> AbstractContextManager[SweepServer]:
    return running(SweepServer(command, values, is_stop_due))


def sweep_command(experiment: Path, *overrides: str) -> list[str]:
    """The shipped sweep's command, for another experiment."""
    shipped = yaml.safe_load((ROOT / "configs" / "sweeps" / "mnist_lr_wandb.yaml").read_text())
    command: list[str] = shipped["command"]
    assert command[:3] == ["ganscale", "train", "configs/mnist_mlp.yaml"]
    assert command[-1] == "${args_no_hyphens}"
    return ["ganscale", "train", str(experiment), *overrides, command[-1]]
