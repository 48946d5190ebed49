"""What an experiment file may say of schedules, and what it hears for a mistake."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from ganscale.config import Experiment, Schedule
from ganscale.config.inline import inline_yaml
from ganscale.config.load import (
    differences,
    json_schema,
    load,
    load_recorded,
    schedule_changes,
    to_yaml,
)
from ganscale.config.schedulable import schedules_in
from ganscale.errors import GanscaleError
from ganscale.gan.schedules import value_at

LR = "generator.optimizer.lr"
COSINE = "{from: 1.0e-3, to: 1.0e-4, by: cosine, until: 2000 steps}"
EVERYWHERE = (
    f"{LR}={COSINE}",
    "discriminator.optimizer.lr=[{from: 0, to: 1.0e-3, until: 5 steps}, 1.0e-4]",
    "generator.optimizer.betas=[{from: 0.5, to: 0, until: end of run}, 0.99]",
    "discriminator.optimizer.betas=[0, {from: 0.9, to: 0.99, until: 20M images}]",
    "objective.penalties=[{kind: r1, weight: {from: 1, to: 0, until: 50% of run}}]",
    "ema.half_life={from: 0, to: 1000, until: 5 steps}",
    "augment.probability={from: 0, to: 1, until: 5 steps}",
    "augment.noise_std={from: 0.1, to: 0, until: 5 steps}",
)


def test_a_schedule_may_stand_wherever_such_a_number_stands(tmp_path: Path) -> None:
    experiment = load(None, EVERYWHERE)
    assert [key for key, _ in schedules_in(experiment)] == [
        "generator.optimizer.lr",
        "generator.optimizer.betas.0",
        "discriminator.optimizer.lr",
        "discriminator.optimizer.betas.1",
        "objective.penalties.0.weight",
        "augment.probability",
        "augment.noise_std",
        "ema.half_life",
    ]
    path = tmp_path / "written.yaml"
    path.write_text(to_yaml(experiment))
    assert load(path) == experiment
    assert load_recorded(path.read_bytes(), path) == experiment
    assert Experiment.model_validate(experiment.model_dump()) == experiment


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{from: 1, to: 2}", f"{LR}.until: required, but missing"),
        ("{from: 1, until: 3 steps}", f"{LR}.to: required, but missing"),
        ("{to: 2, until: 3 steps}", "the first value is missing; add from"),
        ("{from: 1, too: 2, until: 3 steps}", "unknown key too; a schedule has from, to, by and"),
        ("{from: 1, to: x, until: 3 steps}", f"{LR}.to='x': input should be a valid number"),
        ("{from: 1, to: .inf, until: 3 steps}", f"{LR}.to=inf: input should be a finite number"),
        ("{from: 1, to: 2, by: cos, until: 3 steps}", f"{LR}.by='cos': input should be 'linear'"),
        ("{from: 1, to: 2, until: 3}", f"{LR}.until=3: write a number and its unit: 2000 steps"),
        ("{from: 1, to: 2, until: 3 epochs}", "20M images, 50% of run or end of run"),
        ("{from: 1, to: 2, until: 1.5 steps}", "must be a whole number, 1 or more"),
        ("{from: 1, to: 2, until: 0 images}", "must be a whole number, 1 or more"),
        ("{from: 1, to: 2, until: 150% of run}", "more than 0% and at most 100%"),
        ("{from: -1, to: 2, until: 3 steps}", "reaches -1, and must be at least 0"),
        ("{from: 1, to: 0, by: exponential, until: 3 steps}", "cannot go from 1 to 0; both must"),
        ("{hold: 1, until: 3 steps}", "hold is only allowed in a list"),
        ("[{hold: 1, to: 2, until: 3 steps}, 3]", "piece 1: hold goes with until alone, not with"),
        ("[{hold: 1, until: 3}, 3]", f"{LR}.0.until=3: write a number and its unit"),
        ("[1, {to: 2, until: 3 steps}]", "piece 1 is the number 1, which lasts to the end"),
        ("[{hold: 1, until: 3 steps}, x]", f"{LR}.1='x': input should be a valid number"),
        ("[1]", "write one number, or a schedule such as {from: 2.0e-4"),
        ("[]", "write one number, or a schedule such as {from: 2.0e-4"),
        (
            "[{from: 0, to: 1, until: 4k images}, {to: 0, until: 20 steps}]",
            f"{LR}: piece 2 ends at 20 steps (step 20), not after piece 1, which ends at "
            "4_000 images (step 31); train.steps is 20,000 and train.batch_size 128",
        ),
        ("cosine", f"{LR}='cosine': input should be a valid number"),
        ("0", f"{LR}=0: input should be greater than 0"),
    ],
)
def test_a_mistake_gets_one_message_that_names_it(value: str, message: str) -> None:
    with pytest.raises(GanscaleError) as error:
        load(None, [f"{LR}={value}"])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment.probability={from: 0, to: 2, until: 3 steps}", "reaches 2, and must be at most"),
        ("generator.optimizer.betas=[0, {from: 0, to: 1, until: 3 steps}]", "must be less than 1"),
        ("generator.optimizer.betas=[0, {from: 0, until: 3 steps}]", "betas.1.to: required"),
        ("augment.noise_std=-1", "greater than or equal to 0"),
        ("ema.half_life={from: 0, to: -1, until: 3 steps}", "reaches -1"),
    ],
)
def test_a_schedule_stays_where_its_number_may_be(override: str, message: str) -> None:
    with pytest.raises(GanscaleError) as error:
        load(None, [override])
    assert message in str(error.value)


def test_a_scheduled_probability_is_not_also_steered() -> None:
    adaptive = ("augment.policy=[flip]", "augment.adaptive={}")
    load(None, [*adaptive, "augment.probability=0.5"])
    with pytest.raises(GanscaleError, match=r"augment\.adaptive steers the same number"):
        load(None, [*adaptive, "augment.probability={from: 0, to: 1, until: 3 steps}"])


def test_numbers_and_schedules_take_each_others_place(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    pieces = "[{hold: 1, until: 3 steps}, 2]"
    for first, second, expected in (
        (COSINE, "1e-4", 1e-4),
        ("1e-4", COSINE, None),
        (COSINE, pieces, None),
        (pieces, COSINE, None),
    ):
        base.write_text(f"generator: {{optimizer: {{lr: {first}}}}}\n")
        by_override = load(base, [f"{LR}={second}"])
        child = tmp_path / "child.yaml"
        child.write_text(f"base: base.yaml\ngenerator: {{optimizer: {{lr: {second}}}}}\n")
        assert by_override == load(child) == load(None, [f"{LR}={second}"])
        assert expected is None or by_override.generator.optimizer.lr == expected


def test_an_override_reaches_into_a_schedule() -> None:
    lr = load(None, [f"{LR}={COSINE}", f"{LR}.to=5e-5", f"{LR}.until=1M images"])
    assert str(lr.generator.optimizer.lr) == (
        "{from: 0.001, to: 5.0e-05, by: cosine, until: 1_000_000 images}"
    )
    run = load(
        None, ["train.steps=70", f"{LR}={{from: 1, to: 0, until: '${{train.steps}} steps'}}"]
    )
    assert isinstance(run.generator.optimizer.lr, Schedule)
    assert run.generator.optimizer.lr.pieces[0].until.count == 70


def test_schedules_may_change_and_plain_numbers_may_not() -> None:
    def compared(one: str, other: str) -> tuple[list[str], list[str]]:
        pair = load(None, one.split(";")), load(None, other.split(";"))
        changes = schedule_changes(*pair)
        return [key for key, *_ in differences(*pair)], [key for key, *_ in changes]

    assert compared(f"{LR}=1e-3", f"{LR}=2e-3") == ([LR], [])
    assert compared(f"{LR}=1e-3", f"{LR}={COSINE}") == ([], [LR])
    assert compared(f"{LR}={COSINE}", f"{LR}=[{COSINE}, 1e-5]") == ([], [LR])
    assert compared(f"{LR}={COSINE};seed=3", f"{LR}=0.1") == (["seed"], [LR])
    end = f"{LR}={{from: 1, to: 0, until: end of run}}"
    assert compared(end, f"{end};train.steps=7") == ([], [LR])
    betas = "generator.optimizer.betas=[{from: 0, to: 0.5, until: 3 steps}, %s]"
    assert compared(betas % 0.9, betas % 0.99) == (["generator.optimizer.betas"], [])
    weight = "objective.penalties=[{kind: %s, weight: %s}]"
    ramp = "{from: 0, to: 0.5, until: 3 steps}"
    assert compared(weight % ("r1", 1), weight % ("r1", ramp)) == (
        [],
        ["objective.penalties.0.weight"],
    )
    assert compared(weight % ("r1", 1), weight % ("r2", ramp))[0] == ["objective.penalties"]
    assert compared("seed=0", weight % ("r2", ramp)) == (["objective.penalties"], [])


OLD = [
    (
        "name: CosineAnnealingLR, options: {T_max: 20000, eta_min: 0.05}",
        "generator.optimizer.lr: {from: 0.001, to: 5.0e-05, by: cosine, until: end of run}",
    ),
    (
        "name: LinearLR, options: {start_factor: 0.5, end_factor: 0.25, total_iters: 400}",
        "generator.optimizer.lr: {from: 0.0005, to: 0.00025, by: linear, until: 400 steps}",
    ),
    (
        "name: ConstantLR, options: {factor: 0.5, total_iters: 4}",
        "generator.optimizer.lr: [{hold: 0.0005, until: 4 steps}, 0.001]",
    ),
    (
        "name: MultiStepLR, options: {milestones: [30, 80], gamma: 0.5}",
        "generator.optimizer.lr: [{hold: 0.001, until: 30 steps}, {hold: 0.0005, until: 80 steps}, "
        "0.00025]",
    ),
    (
        "name: CosineAnnealingWarmRestarts, options: {T_0: 5}",
        "for example generator.optimizer.lr: {from: 0.0002",
    ),
    ("name: StepLR, options: {gama: 0.1}", "for example generator.optimizer.lr: {from: 0.0002"),
]


@pytest.mark.parametrize(("old", "new"), OLD)
def test_an_old_schedule_is_refused_with_its_new_form(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(f"generator: {{optimizer: {{lr: 1.0e-3}}, schedules: [{{{old}}}]}}\n")
    for read in (load, lambda path: load_recorded(path.read_bytes(), path)):
        with pytest.raises(GanscaleError) as error:
            read(path)
        assert "a schedule now replaces the number that it changes" in str(error.value)
        assert new in str(error.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CosineAnnealingLR", {"T_max": 60, "eta_min": 0.05}),
        ("LinearLR", {"start_factor": 0.5, "end_factor": 0.25, "total_iters": 40}),
        ("LinearLR", {}),
        ("ExponentialLR", {"gamma": 0.97}),
        ("ConstantLR", {"total_iters": 7}),
        ("MultiStepLR", {"milestones": [20, 45]}),
    ],
)
def test_the_new_form_is_torchs_old_curve(name: str, options: dict[str, Any]) -> None:
    old = {"name": name, "options": options}
    with pytest.raises(GanscaleError) as error:
        load(None, [f"generator.schedules=[{inline_yaml(old)}]", "train.steps=60"])
    new = str(error.value).rpartition("generator.optimizer.lr: ")[2]
    experiment = load(None, [f"{LR}={new}", "train.steps=60"])
    assert isinstance(experiment.generator.optimizer.lr, Schedule)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2e-4)
    scheduled = (
        {**options, "eta_min": options["eta_min"] * 2e-4} if "eta_min" in options else options
    )
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **scheduled)
    for step in range(60):
        ours = value_at(experiment.generator.optimizer.lr, step, experiment.pace)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        optimizer.step()
        scheduler.step()


def test_old_noise_is_refused_and_all_is_said_at_once() -> None:
    old = ("augment.noise={std: 0.3, steps: 4}", "discriminator.schedules=[{name: LinearLR}]")
    with pytest.raises(GanscaleError) as error:
        load(None, old)
    assert str(error.value).splitlines()[1:] == [
        "  a schedule now replaces the number that it changes:",
        "  instead of discriminator.schedules write discriminator.optimizer.lr: "
        "{from: 6.666666666666667e-05, to: 0.0002, by: linear, until: 5 steps}",
        "  instead of augment.noise write augment.noise_std: {from: 0.3, to: 0, until: 4 steps}",
    ]


def test_a_recorded_run_without_schedules_reads_as_before() -> None:
    old = "generator: {schedules: []}\naugment: {noise: null}\n"
    assert load_recorded(old.encode(), Path("x")) == load(None)


def test_editors_complete_schedules() -> None:
    schema = json.loads(json_schema())["$defs"]
    choices = schema["Adam"]["properties"]["lr"]["anyOf"]
    assert choices[0] == {"exclusiveMinimum": 0, "type": "number"}
    assert choices[1] == {"$ref": "#/$defs/WrittenSchedule"}
    ramp, pieces = schema["WrittenSchedule"]["anyOf"]
    assert ramp == {"$ref": "#/$defs/Ramp"}
    assert {"$ref": "#/$defs/Hold"} in pieces["items"]["anyOf"]
    assert set(schema["Ramp"]["properties"]) == {"from", "to", "by", "until"}
    assert schema["Ramp"]["required"] == ["to", "until"]
    pattern = schema["Ramp"]["properties"]["until"]["pattern"]
    for until in ("2000 steps", "20M images", "1.5k images", "12.5% of run", "end of run"):
        assert re.search(pattern, until), until
    for until in ("2000", "steps", "20 M", "1 epoch", "start of run", "xend of run"):
        assert not re.search(pattern, until), until
