"""Says in words where the time of a step goes, and which keys of the experiment change that."""

from ganscale.config import Experiment
from ganscale.profiling.marks import DATA, OPTIMIZERS, REDUCTIONS
from ganscale.profiling.timeline import IDLE, PENALTIES
from ganscale.training.profile import Profile

NOTABLE = 0.2  # of a step: from here on a part is worth a sentence
FEW_PRODUCTS = 0.5  # of the operations' time: below it, small operations dominate
PRODUCTS = ("conv", "::mm", "addmm", "bmm", "gemm", "cutlass", "nvjet", "wgrad", "dgrad", "fprop")
"""In the names of operations and kernels that multiply matrices or convolve."""


def advise(experiment: Experiment, profile: Profile) -> list[str]:
    """Return a sentence for each part that takes a notable share of a step, the largest first."""
    total = sum(profile.parts.values())
    remedies = {
        DATA: ("Waiting for data", _about_data(experiment, profile)),
        IDLE: (
            "Waiting for Python, which launches operations one by one,",
            "raise train.batch_size or use fewer GPUs, so that each operation has more to do",
        ),
        PENALTIES: (
            "Differentiating gradient penalties",
            "a larger `every` in objective.penalties computes them less often, at a weight that is "
            "larger by as much",
        ),
        REDUCTIONS: (
            "Averaging gradients over processes",
            "raise train.batch_size or use fewer processes, since it costs the same for any batch",
        ),
        OPTIMIZERS: (
            "Adam",
            "raise train.batch_size, since it costs the same for any batch",
        ),
    }
    shares = sorted(
        ((profile.parts.get(part, 0.0) / total, part) for part in remedies), reverse=True
    )
    found = []
    for share, part in shares:
        what, remedy = remedies[part]
        if share >= NOTABLE:
            found.append(
                f"{what} takes {share:.0%} of a step" + (f": {remedy}." if remedy else ".")
            )
    return found + _about_operations(experiment, profile)


def _about_data(experiment: Experiment, profile: Profile) -> str:
    data = experiment.data
    if profile.in_memory:
        return "data.resident_on=device keeps the dataset on the GPU" if profile.on_gpu else ""
    more = f"raise data.workers (now {data.workers})"
    if data.is_streamed or data.reader == "resident":
        return more
    return f"{more}, or set data.reader=resident if the decoded dataset fits into memory"


def _about_operations(experiment: Experiment, profile: Profile) -> list[str]:
    """Return what kind of operations takes the time, and what makes that kind faster."""
    time = sum(row.seconds for row in profile.operations)
    products = sum(
        row.seconds for row in profile.operations if any(p in row.name.lower() for p in PRODUCTS)
    )
    share = products / time if time else 0.0
    if share < FEW_PRODUCTS:
        return [
            f"Small operations dominate: only {share:.0%} of the operations' time goes into "
            "convolutions and matrix products. A larger train.batch_size costs less per image."
        ]
    text = f"Convolutions and matrix products take {share:.0%} of the operations' time"
    train = experiment.train
    if profile.on_gpu and train.precision == "fp32":
        return [f"{text}: train.precision=bf16 makes them faster."]
    if profile.on_gpu and not train.channels_last:
        return [f"{text}: train.channels_last=true may make convolutions faster."]
    return [f"{text}, which is what the step is for."]
