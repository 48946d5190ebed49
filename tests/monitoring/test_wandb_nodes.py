"""GPU and system metrics of other nodes, which W&B's program fetches from their exporters."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb
from accelerate import PartialState

from ganscale.monitoring.trackers.run_trackers import Trackers
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sync.upload import sync
from ganscale.runs.trust import note_own_wandb
from tests.conftest import tiny
from tests.servers import running
from tests.system.processes import ROOT
from tests.wandb_cloud import EVENTS, logged_in

NOWHERE = "http://127.0.0.1:9/metrics"
LONGEST_S = 60
ENDPOINTS = "WANDB_X_STATS_OPEN_METRICS_ENDPOINTS"
FILTERS = "WANDB_X_STATS_OPEN_METRICS_FILTERS"
EXPORTED = b"""\
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",Hostname="node1"} 91
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b",Hostname="node1"} 87
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-a",Hostname="node1"} 1980
"""


class Exporter(ThreadingHTTPServer):
    """What a node's DCGM exporter answers; `twice` is set when it was asked two times."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = 0
        self.twice = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Exporter

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(EXPORTED)))
        self.end_headers()
        self.wfile.write(EXPORTED)
        self.server.asked += 1
        if self.server.asked == 2:  # W&B asks again when it has taken the first answer
            self.server.twice.set()

    def log_message(self, *arguments: object) -> None:
        pass


def of_the_example(*nodes: str) -> dict[str, str]:
    """What the lines of `slurm/site.example.sh` about W&B set in a job on these nodes."""
    shipped = (ROOT / "slurm" / "site.example.sh").read_text().split("\n\n")
    (block,) = (part for part in shipped if ENDPOINTS in part)
    lines = "\n".join(line.removeprefix("# ") for line in block.splitlines()[1:])
    hosts = "scontrol() { printf '%s\\n' " + " ".join(nodes) + "; }"
    show = f'printf "%s\\n" "${ENDPOINTS}" "${FILTERS}"'
    script = f"set -euo pipefail; SLURM_JOB_NODELIST=all\n{hosts}\n{lines}\n{show}"
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    return dict(zip((ENDPOINTS, FILTERS), said.stdout.splitlines(), strict=True))


def test_a_job_of_slurm_asks_the_exporter_of_each_node() -> None:
    endpoints = json.loads(of_the_example("gpu-01", "gpu-02")[ENDPOINTS])
    assert endpoints == {
        "gpu-01": "http://gpu-01:9400/metrics",
        "gpu-02": "http://gpu-02:9400/metrics",
    }


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_rank_0_shows_the_gpus_of_other_nodes_and_does_without_a_node_that_is_silent(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mode: str,
) -> None:
    PartialState(cpu=True)
    with running(Exporter()) as node1:
        endpoints = {"node1": f"http://127.0.0.1:{node1.server_port}/metrics", "node2": NOWHERE}
        monkeypatch.setenv(ENDPOINTS, json.dumps(endpoints))
        monkeypatch.setenv(FILTERS, of_the_example("gpu-01")[FILTERS])
        monkeypatch.setenv("WANDB_X_STATS_SAMPLING_INTERVAL", "0.1")
        with logged_in(monkeypatch) as cloud:
            experiment = tiny(digits, tmp_path, f"monitoring.wandb={mode}")
            folder = RunFolder.of(experiment)
            folder.claim(experiment)
            folder.release()
            trackers = Trackers(experiment, folder.path, folder.metrics)
            trackers.log(1, 8, {"loss_generator": 0.5})
            assert node1.twice.wait(LONGEST_S)
            trackers.finish()
            if mode == "offline":
                wandb.teardown()  # what is finished is in the file once W&B's program has ended
                note_own_wandb(folder.path, trackers.ids["wandb"])
                sync(folder.path)
            (run,) = cloud.runs.values()
    shown: dict[str, object] = {}
    for line in run.text(EVENTS):
        shown |= json.loads(line)
    of_nodes = {key: value for key, value in shown.items() if "openmetrics" in key}
    utilization = "system.openmetrics.node1.DCGM_FI_DEV_GPU_UTIL"
    assert sorted(of_nodes) == [f"{utilization}.0", f"{utilization}.1"]
    assert sorted(map(str, of_nodes.values())) == ["87", "91"]
    assert [line["loss_generator"] for line in run.history] == [0.5]
    assert run.exit_codes == [0]
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.getMessage() for record in warnings if record.name == "ganscale"] == []
