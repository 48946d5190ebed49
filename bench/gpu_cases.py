"""The cases of bench/gpu.py, as a table: what is measured, of which game, with which options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gpu_checks
import gpu_speed
import loops
from bare import BareLoop
from games import BF16, R1_AND_R2, dcgan, penalties, r3gan, sngan

from ganscale.config import Experiment

COMPILE_S, USUAL_S = 60.0, 40.0
ONE_PROCESS = {  # what a launcher says to the only process
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
}


@dataclass(frozen=True)
class Case:
    """Something to measure."""

    name: str
    measure: Callable[[Path, tuple[str, ...]], dict[str, Any]]
    overrides: tuple[str, ...]
    needs_cuda: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    limit_s: float = USUAL_S

    def reason_to_skip(self, cuda: bool) -> str | None:
        """Return why the case cannot be measured here, or None."""
        if self.needs_cuda and not cuda:
            return "needs a GPU"
        for override in self.overrides:
            section, _, rest = override.partition("=")[0].partition(".")
            options = Experiment.model_fields[section].annotation
            if section == "train" and rest not in options.model_fields:  # type: ignore[union-attr]
                return f"this version has no {section}.{rest}"
        return None


TF32 = ("train.precision=fp32", "train.tf32=true")
GRAPH, COMPILE = "train.cuda_graph=true", "train.compile=true"
SEPARATE = penalties(
    *(
        f"{Path(__file__).with_name('separate_penalties.py')}:{name}"
        for name in ("SeparateR1", "SeparateR2")
    )
)
# As large as gradients are: else Adam enlarges what is nothing but rounding.
STEADY = ("generator.optimizer.eps=1e-3", "discriminator.optimizer.eps=1e-3")


def make_cases(cuda: bool) -> list[Case]:
    """Return all cases, the most wanted first; without a GPU the games are small."""
    width, steps = (64, 100) if cuda else (8, 2)
    wide, r3gan_steps = (768, 12) if cuda else (16, 2)
    resnet, batches = (128, (64, 256, 1024)) if cuda else (8, (8,))
    cases = []

    # -- what has to hold
    small = {
        "DCGAN": dcgan(16, 16),
        "R3GAN": r3gan(16, 32, R1_AND_R2),
        "SNGAN": sngan(16, 32, 16),
    }
    for name, game in small.items():
        cases += [
            Case(
                f"replay of a CUDA graph is eager, bit for bit: {name}",
                partial(gpu_checks.same_bits, GRAPH),
                (*game, "train.cuda_graph=false"),
                needs_cuda=True,
            ),
            Case(f"eager is eager, bit for bit: {name}", partial(gpu_checks.same_bits, ""), game),
            Case(
                f"a step reads nothing back: {name}",
                gpu_checks.reads_nothing_back,
                game,
                needs_cuda=True,
            ),
        ]
    cases += [
        Case("against float64: DCGAN", gpu_checks.against_float64, (*dcgan(16, 16), *STEADY)),
        Case(
            "against float64: R3GAN",
            gpu_checks.against_float64,
            r3gan(16, 32, R1_AND_R2.replace("precision: network", "precision: fp32"), *STEADY),
        ),
    ]

    # -- how fast
    trainer = partial(gpu_speed.trainer, steps=steps)
    ways: dict[str, tuple[str, ...]] = {
        "eager": (),
        "graph": (GRAPH,),
        "compiled": (COMPILE,),
        "compiled, graph": (COMPILE, GRAPH),
    }
    for batch in batches:
        game = dcgan(batch, width, *BF16)
        title = f"DCGAN 64, batch {batch}"
        for name, written in (("PyTorch's example", loops.dcgan_example), ("bare loop", BareLoop)):
            measure = partial(gpu_speed.loop, steps=steps, written=written)
            cases.append(Case(f"{title}: {name}", measure, game))
        for name, options in ways.items():
            limit = COMPILE_S if COMPILE in options else USUAL_S
            cases.append(
                Case(f"{title}: {name}", trainer, (*game, *options), GRAPH in options, {}, limit)
            )
    for precision, arithmetic in (("TF32", TF32), ("bf16", BF16)):
        batch = 64 if cuda else 4
        title = f"R3GAN 32, widths {wide}, batch {batch}, {precision}"
        for separate in (True, False):
            game = r3gan(batch, wide, SEPARATE if separate else R1_AND_R2, *arithmetic)
            for own in (False, True):
                forwards = "separate forwards" if separate else "shared forward"
                derivatives = "own convolutions" if own else "ATen's convolutions"
                cases.append(
                    Case(
                        f"{title}: {forwards}, {derivatives}",
                        partial(gpu_speed.trainer, steps=r3gan_steps, own_convolution=own),
                        game,
                    )
                )
        measure = partial(gpu_speed.loop, steps=r3gan_steps, written=loops.r3gan_authors)
        cases.append(Case(f"{title}: the authors' loop", measure, game))
    batch = 64 if cuda else 4
    for name, options in ways.items():
        if COMPILE not in options:
            game = sngan(batch, 2 * resnet, resnet, *BF16, *options)
            title = f"SNGAN 32, width {resnet}, batch {batch}: {name}"
            cases.append(Case(title, trainer, game, GRAPH in options))
    measure = partial(gpu_speed.loop, steps=steps, written=loops.mimicry)
    title = f"SNGAN 32, width {resnet}, batch {batch}: mimicry"
    cases.append(Case(title, measure, sngan(batch, 2 * resnet, resnet, *BF16)))

    # -- data and engines
    game = dcgan(batches[-1], width, *BF16)
    cases += [
        Case(
            f"data in memory of the {place}: DCGAN 64, batch {batches[-1]}",
            trainer,
            (*game, "data.reader=resident", f"data.resident_on={place}"),
            needs_cuda=place == "device",
        )
        for place in ("host", "device")
    ]
    game = dcgan(batches[0], width, *BF16)
    for port, engine in enumerate(("ddp", "zero2"), start=29_531):
        place = ONE_PROCESS | {"MASTER_PORT": str(port), "GANSCALE_ENGINE": engine}
        title = f"{engine}, a group of one: DCGAN 64, batch {batches[0]}"
        cases.append(Case(title, trainer, game, environment=place))
    place = ONE_PROCESS | {"MASTER_PORT": "29533"}
    title = "averaging the generator's gradients, a group of one"
    cases.append(Case(title, gpu_speed.all_reduce, game, environment=place))
    # Compiling takes long: what little time may be left is for these.
    return sorted(cases, key=lambda case: case.limit_s)
