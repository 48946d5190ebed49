"""What a launcher's environment says, in the words of each launcher."""

import json
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env

from ganscale.engines.deepspeed_config import FROM_EXPERIMENT
from ganscale.engines.launcher import DDP, ENGINES, FSDP2, Launcher
from ganscale.errors import GanscaleError
from tests.system.processes import ROOT

RANK_3 = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
}
USES_DEEPSPEED = {**RANK_3, "ACCELERATE_USE_DEEPSPEED": "true"}


def test_without_a_launcher_a_process_is_alone() -> None:
    assert Launcher.from_environment({}) == Launcher()
    assert Launcher().engine.describe(world_size=1) == "single process"


def test_a_rank_knows_its_node_also_where_the_launcher_does_not_say_it() -> None:
    launcher = Launcher.from_environment(RANK_3)
    assert (launcher.rank, launcher.world_size, launcher.local_rank) == (3, 4, 1)
    assert launcher.node == 1
    assert Launcher.from_environment({**RANK_3, "GROUP_RANK": "0"}).node == 0


@pytest.mark.parametrize("name", ENGINES)
def test_ganscale_engine_decides_whatever_accelerate_asks_for(name: str) -> None:
    launcher = Launcher.from_environment({**USES_DEEPSPEED, "GANSCALE_ENGINE": name})
    assert launcher.engine is ENGINES[name]


@pytest.mark.parametrize("stage", range(4))
def test_the_options_of_accelerate_launch_choose_a_stage(stage: int) -> None:
    file = f"--config_file={ROOT / 'launch' / 'accelerate' / 'deepspeed.yaml'}"
    line = [file, f"--zero_stage={stage}", "--offload_optimizer_device=cpu", "train.py"]
    arguments, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(line))
    fields = ",".join(defaults.deepspeed_config)
    arguments.deepspeed_fields_from_accelerate_config = fields
    _, environment = prepare_deepspeed_cmd_env(arguments)
    engine = Launcher.from_environment({**environment, **RANK_3}).engine
    assert engine.zero_stage == stage
    assert engine.deepspeed["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert engine.describe(4) == f"DeepSpeed ZeRO-{stage}"


def test_fsdp_of_one_process_is_a_single_process() -> None:
    asked = {"ACCELERATE_USE_FSDP": "true"}
    assert Launcher.from_environment(asked).engine is DDP
    assert Launcher.from_environment({**asked, **RANK_3}).engine is FSDP2


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "first"}, "RANK=first in the environment is not a number"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0 .* a number of at least 1"),
        ({"GANSCALE_ENGINE": "zero4"}, "GANSCALE_ENGINE=zero4: unknown engine; use one of ddp"),
        ({"GANSCALE_ENGINE": "zero1"}, "DeepSpeed needs a launcher"),
        (
            {"ACCELERATE_USE_DEEPSPEED": "true"},
            "also for a single process: accelerate launch --config",
        ),
        (
            {**RANK_3, "ACCELERATE_USE_FSDP": "true", "FSDP_OFFLOAD_PARAMS": "true"},
            "fsdp_offload_params: true; only Adam's moments",
        ),
        ({**USES_DEEPSPEED, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "5"}, "zero_stage=5, which must"),
        (
            {**USES_DEEPSPEED, "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "nvme"},
            "offload_optimizer_device=nvme; without a DeepSpeed file",
        ),
        (
            {**USES_DEEPSPEED, "ACCELERATE_DEEPSPEED_CONFIG_FILE": "no/such.json"},
            "DeepSpeed file 'no/such.json': cannot be used",
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:20],
)
def test_what_makes_no_sense_is_one_message(environment: dict[str, str], message: str) -> None:
    with pytest.raises(GanscaleError, match=message):
        Launcher.from_environment(environment)


@pytest.mark.parametrize("key", FROM_EXPERIMENT)
def test_a_deepspeed_file_may_not_decide_what_the_experiment_decides(
    tmp_path: Path, key: str
) -> None:
    file = tmp_path / "own.json"
    chosen = {"zero_optimization": {"stage": 1}}
    file.write_text(json.dumps(chosen))
    environment = {**USES_DEEPSPEED, "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}
    assert Launcher.from_environment(environment).engine.deepspeed == chosen
    file.write_text(json.dumps({**chosen, key: "auto"}))
    with pytest.raises(GanscaleError, match=f"sets {key}, which follows from"):
        Launcher.from_environment(environment)
