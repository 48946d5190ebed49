"""Old forms in experiment files: those that still work, and errors that say what to write instead.

Learning rates used to have `schedules` with PyTorch's schedulers, and instance noise used to fade
over `steps` of its own. TensorBoard used to have a switch of its own, and the only weights that
could be given were Inception's; these two still work.
"""

from collections.abc import Iterator
from typing import Any

from ganscale.config.inline import inline_yaml
from ganscale.config.players import Adam
from ganscale.config.running import Monitoring, Train
from ganscale.config.schedules import first_value

OLD_WEIGHTS = "inception_weights"
PLAYERS = ("generator", "discriminator")
RATE = first_value(Adam().lr)
EXAMPLE = {"from": 2e-4, "to": 5e-5, "by": "cosine", "until": "2000 steps"}


def refuse_old_forms(values: Any) -> Any:
    """Return the values of an experiment file without the old keys.

    `monitoring.tensorboard` becomes an entry of `monitoring.trackers`, and
    `evaluation.inception_weights` is now `evaluation.weights`. Those of schedules must be empty:
    raises `ValueError` if one is not. The message has the lines to write instead, with the file's
    own numbers if the new form can express them.
    """
    if not isinstance(values, dict):
        return values
    kept = _with_weights(_with_trackers(values))
    problems: list[str] = []
    for name in PLAYERS:
        player = kept.get(name)
        if isinstance(player, dict) and "schedules" in player:
            kept[name] = {key: value for key, value in player.items() if key != "schedules"}
            if player["schedules"]:
                problems += _about_schedules(name, player, values)
    augment = kept.get("augment")
    if isinstance(augment, dict) and "noise" in augment:
        kept["augment"] = {key: value for key, value in augment.items() if key != "noise"}
        if augment["noise"]:
            problems += _about_noise(augment["noise"])
    if problems:
        raise ValueError(
            "\n  ".join(["a schedule now replaces the number that it changes:", *problems])
        )
    return kept


def _with_weights(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with the file of weights under its new name.

    Raises `ValueError` if both names have one.
    """
    evaluation = values.get("evaluation")
    if not isinstance(evaluation, dict) or OLD_WEIGHTS not in evaluation:
        return values
    kept = dict(evaluation)
    weights = kept.pop(OLD_WEIGHTS)
    if weights is not None:
        if kept.get("weights") not in (None, weights):
            raise ValueError(
                f"evaluation.{OLD_WEIGHTS} is now called evaluation.weights, which names another "
                "file: leave the old one out"
            )
        kept["weights"] = weights
    return {**values, "evaluation": kept}


def _with_trackers(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with TensorBoard among the trackers as its old switch says."""
    monitoring = values.get("monitoring")
    if not isinstance(monitoring, dict) or type(monitoring.get("tensorboard")) is not bool:
        return dict(values)
    kept = {key: value for key, value in monitoring.items() if key != "tensorboard"}
    trackers = kept.get("trackers", Monitoring().trackers)
    if isinstance(trackers, list | tuple):
        others = [name for name in trackers if name != "tensorboard"]
        kept["trackers"] = [*others, "tensorboard"] if monitoring["tensorboard"] else others
    return {**values, "monitoring": kept}


def _about_schedules(name: str, player: dict[str, Any], values: dict[str, Any]) -> Iterator[str]:
    old, key = player["schedules"], f"{name}.optimizer.lr"
    optimizer, train = player.get("optimizer"), values.get("train")
    rate = optimizer.get("lr", RATE) if isinstance(optimizer, dict) else RATE
    steps = train.get("steps", Train().steps) if isinstance(train, dict) else Train().steps
    new: Any = None
    if isinstance(old, list) and len(old) == 1 and isinstance(old[0], dict):
        try:
            new = _translated(float(rate), steps, old[0]["name"], **old[0].get("options", {}))
        except (KeyError, TypeError, ValueError, OverflowError):  # PyTorch would refuse it, too
            new = None
    if new is not None:
        yield f"instead of {name}.schedules write {key}: {inline_yaml(new)}"
    else:
        yield (
            f"instead of {name}.schedules write the learning rate itself, for example "
            f"{key}: {inline_yaml(EXAMPLE)}, or a list of such pieces that follow one another"
        )


def _about_noise(old: Any) -> Iterator[str]:
    std, steps = 0.1, 2000
    if isinstance(old, dict):
        std, steps = old.get("std", std), old.get("steps", steps)
    new = {"from": std, "to": 0, "until": f"{steps} steps"}
    yield f"instead of augment.noise write augment.noise_std: {inline_yaml(new)}"


def _translated(rate: float, run: Any, name: str, **options: Any) -> Any:
    """Return the schedule that equals a PyTorch scheduler at this rate; None if there is none."""
    if name == "CosineAnnealingLR":
        return _ramp(rate, rate * options.get("eta_min", 0.0), "cosine", options["T_max"], run)
    if name == "LinearLR":
        start, end = options.get("start_factor", 1 / 3), options.get("end_factor", 1.0)
        return _ramp(rate * start, rate * end, "linear", options.get("total_iters", 5), run)
    if name == "ExponentialLR":
        end = rate * options["gamma"] ** run
        return _ramp(rate, end, "exponential", run, run) if end > 0 else None
    if name == "ConstantLR":
        held = rate * options.get("factor", 1 / 3)
        return [{"hold": held, "until": f"{options.get('total_iters', 5)} steps"}, rate]
    if name == "MultiStepLR":
        factors = [options.get("gamma", 0.1) ** i for i in range(len(options["milestones"]) + 1)]
        held = zip(factors, options["milestones"], strict=False)
        pieces = [{"hold": rate * factor, "until": f"{step} steps"} for factor, step in held]
        return [*pieces, rate * factors[-1]]
    return None


def _ramp(start: float, end: float, by: str, steps: Any, run: Any) -> dict[str, Any]:
    until = "end of run" if steps == run else f"{steps} steps"
    return {"from": start, "to": end, "by": by, "until": until}
