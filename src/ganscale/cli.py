"""The command line. Each command imports what it needs when it runs, so that `--help` is quick."""

import argparse
import atexit
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from ganscale import __version__
from ganscale.commands.arguments import location, natural, path, positive
from ganscale.commands.submit import ENGINES
from ganscale.errors import GanscaleError
from ganscale.system_errors import describe_error, find_system_error
from ganscale.terminal import abandon_output, flush_output, prepare_streams, print_text, printable

if TYPE_CHECKING:
    from ganscale.config import Experiment

GRID_IMAGES = 64
LAST_WORD_S = 15
LAUNCHERS = {  # the least value of each; -1 is a launcher's word for none
    "RANK": -1,
    "LOCAL_RANK": -1,
    "GROUP_RANK": -1,
    "WORLD_SIZE": 1,
    "LOCAL_WORLD_SIZE": 1,
}
NUM_HELP = "images in --out (10,000), of which --grid shows the first 64, or in --grid alone"
DESCRIPTION = "Train GANs from one laptop to many nodes."
EPILOG = """\
a run, from data to pictures:
  ganscale pack digits data/digits --size 28
  ganscale train configs/mnist_mlp.yaml data.path=data/digits train.steps=2000
  ganscale sample runs/mnist_mlp --grid grid.png
"""


def run() -> NoReturn:
    """The program: `main`, then the end of the process with its exit code.

    Where PyTorch was used, the interpreter is not torn down after the exit handlers have run: its
    threads may still be running, and one that is then woken aborts the process with SIGABRT.
    """
    codes: list[int] = []
    atexit.register(_leave, codes)  # handlers run in reverse order: before any other is known
    codes.append(main())
    sys.exit(codes[0])


def _leave(codes: list[int]) -> None:
    if codes and "torch" in sys.modules:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(codes[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    prepare_streams()
    try:
        options = _parser().parse_args(arguments)
        code = int(options.command(options) or 0)
        flush_output()
        return code
    except SystemExit:  # argparse, which has printed help or what is wrong
        with suppress(OSError):
            flush_output()
        raise
    except GanscaleError as error:
        _complain(str(error), error.every_rank)
        if error.every_rank and os.environ.get("RANK", "0") != "0":
            # A launcher ends all ranks with the first that ends, and rank 0 has to say why.
            time.sleep(LAST_WORD_S)
        return error.exit_code
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":
            resuming = options.command in (_train, _sweep)
            more = ": the same command resumes from the last checkpoint" if resuming else ""
            print(f"ganscale: interrupted{more}", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        abandon_output()
        return 1
    except Exception as error:
        cause = find_system_error(error)
        if cause is None:
            raise
        try:
            flush_output()
        except OSError as of_output:  # printing has failed, not a file
            cause = of_output
        _complain(describe_error(cause))
        return 1


def _complain(message: str, every_rank: bool = False) -> None:
    rank = os.environ.get("RANK", "0")
    who = "ganscale" if rank == "0" else f"ganscale (rank {rank})"
    if rank == "0" or not every_rank:
        with suppress(OSError):
            print(f"{who}: error: {printable(message)}", file=sys.stderr, flush=True)


class _CommandParser(argparse.ArgumentParser):
    """A command's arguments, in any order: argparse alone takes no override after an option."""

    _is_intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as `parse_known_intermixed_args` does, which itself calls this method."""
        if self._is_intermixing:
            return super().parse_known_args(args, namespace)
        self._is_intermixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_intermixing = False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "ganscale",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_CommandParser)

    def command(function: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
        name = function.__name__.removeprefix("_")
        text = (function.__doc__ or "").rstrip(".")
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    pack = command(_pack)
    pack.add_argument(
        "source", type=location, help="mnist, fashion-mnist, cifar10, digits, or a path"
    )
    pack.add_argument("folder", type=path, help="where the shards go")
    pack.add_argument("--size", type=positive, help="height and width in pixels")
    pack.add_argument("--crop", choices=("center", "none"), default="center", help="to a square")
    pack.add_argument("--labels", type=path, help="CSV or JSON: file name to class")
    pack.add_argument("--channels", type=positive, choices=(1, 3), help="1 grey, 3 RGB")
    pack.add_argument("--format", choices=("png", "jpg", "webp"), default="png")
    pack.add_argument("--quality", type=positive, default=95, help="of JPEG, 1 to 100")
    pack.add_argument("--samples-per-shard", type=positive, default=4096)
    pack.add_argument("--on-error", choices=("raise", "skip"), default="raise")
    pack.add_argument("--processes", type=positive, default=os.cpu_count() or 1)
    pack.add_argument("--data-root", type=path, help="folder that holds torchvision's sets")
    pack.add_argument("--split", choices=("train", "test"), default="train", help="of a known set")
    pack.add_argument("--part", help="I/N: only every N-th shard; the last part to end merges all")
    pack.add_argument("--download", action="store_true", help="let torchvision fetch it")

    index = command(_index)
    index.add_argument(
        "shards", nargs="+", type=location, help="tars, addresses, folders or brace patterns"
    )
    index.add_argument("--out", type=path, required=True, help="folder for manifest and index")
    index.add_argument("--label", help="key of the class number in each sample's JSON member")

    inspect = command(_inspect)
    inspect.add_argument("set", type=location, help="folder or address of a packed set")
    inspect.add_argument("--sheet", type=path, help="FILE.png: the first images")
    inspect.add_argument("--verify", action="store_true", help="check sums, decode all samples")
    inspect.add_argument("--processes", type=positive, default=os.cpu_count() or 1)

    train = command(_train)
    train.add_argument("experiment", type=path, help="experiment file")
    train.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. train.steps=2000")

    for function in (_stop, _save):
        command(function).add_argument("run", type=path, help="run folder")

    submit = command(_submit)
    submit.add_argument("experiment", type=path, help="experiment file")
    submit.add_argument("overrides", nargs="*", metavar="key=value")
    submit.add_argument("--nodes", type=positive, default=1)
    submit.add_argument(
        "--gpus-per-node", type=positive, help="none: one process a node, on its CPU"
    )
    submit.add_argument("--cpus-per-gpu", type=positive, help="default: 2 more than data.workers")
    submit.add_argument("--mem-per-gpu", help="host memory, as sbatch takes it (16G)")
    submit.add_argument("--engine", choices=ENGINES, default="ddp")
    submit.add_argument("--time", help="limit of one start, as sbatch takes it (4 hours)")
    submit.add_argument("--partition")
    submit.add_argument("--account")
    submit.add_argument("--qos")
    submit.add_argument("--sbatch", action="append", default=[], help="another option of sbatch")
    submit.add_argument("--dry-run", action="store_true", help="print the script instead")

    sweep = command(_sweep)
    sweep.add_argument("grid", type=path, help="grid file, e.g. configs/sweeps/mnist_lr.yaml")
    sweep.add_argument("overrides", nargs="*", metavar="key=value", help="the same for all runs")
    sweep.add_argument("--task", type=natural, help="train this run, counted from 0")
    sweep.add_argument("--folder", action="store_true", help="print that run's folder instead")

    config = command(_config)
    config.add_argument("experiment", type=path, nargs="?", help="default: all defaults")
    config.add_argument("overrides", nargs="*", metavar="key=value")
    config.add_argument("--schema", action="store_true", help="print the JSON schema instead")
    config.add_argument("--folder", action="store_true", help="print the run folder's path instead")

    sample = command(_sample)
    sample.add_argument("run", type=path, help="run folder")
    sample.add_argument("--checkpoint", default="latest", help="latest, best, or a step's name")
    sample.add_argument("--weights", choices=("ema", "generator"), default="ema")
    sample.add_argument("--seed", type=natural, default=0)
    sample.add_argument("--class", type=natural, dest="label", help="only this one, counted from 0")
    sample.add_argument("--num", type=positive, help=NUM_HELP)
    sample.add_argument("--out", type=path, help="FILE.npz: uint8, N×H×W×C")
    sample.add_argument("--grid", type=path, help="FILE.png: one picture of many")
    sample.add_argument("--interpolate", type=path, help="FILE.png or FILE.gif: latent paths")

    evaluate = command(_evaluate)
    evaluate.add_argument("run", type=path, help="run folder")
    evaluate.add_argument("--checkpoint", default="latest", help="latest, best, or a step's name")
    evaluate.add_argument(
        "--num", type=positive, help="generated images (default: the experiment's)"
    )
    evaluate.add_argument("--features", choices=("auto", "classifier", "inception"))
    evaluate.add_argument("--inception-weights", help="file (default: fetched at need)")

    export = command(_export)
    export.add_argument("run", type=path, help="run folder")
    export.add_argument("--checkpoint", default="latest", help="latest, best, or a step's name")
    export.add_argument(
        "--format", choices=("safetensors", "torch.export", "onnx"), default="safetensors"
    )
    export.add_argument("--out", type=path, help="folder (default: exports/FORMAT in the run's)")

    for reader in (sample, evaluate, export):
        reader.add_argument(
            "--trust-code",
            action="store_true",
            help="run the code of the run's networks, though it is not a run of your own",
        )

    report = command(_report)
    report.add_argument("run", type=path, help="run folder")

    command(_doctor)
    return parser


def _pack(options: argparse.Namespace) -> None:
    """Pack images into WebDataset shards."""
    from ganscale.commands.pack import run

    run(options)


def _index(options: argparse.Namespace) -> None:
    """Make manifest and index for WebDataset shards made elsewhere."""
    from ganscale.commands.index import run

    run(options)


def _inspect(options: argparse.Namespace) -> int:
    """Show what a packed set holds, and check it."""
    from ganscale.commands.inspect import run

    return run(options)


def _train(options: argparse.Namespace) -> int:
    """Train an experiment, resuming where its run folder left off."""
    from ganscale.config.load import load
    from ganscale.monitoring.wandb_trial import named_after_trial

    _refuse_bad_ranks()
    try:
        experiment = named_after_trial(load(options.experiment, options.overrides))
    except GanscaleError as error:
        error.every_rank = True
        raise
    return _train_unless_finished(experiment)


def _train_unless_finished(experiment: "Experiment") -> int:
    """Train, or say at once that it is done: what trains takes many seconds to import.

    Several processes have to agree on it first, which they do once they have met.
    """
    from ganscale.runs.run_folder import RunFolder

    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        folder = RunFolder.of(experiment)
        if folder.is_finished(experiment):
            folder.say_finished(experiment)
            return 0
    from ganscale.training.trainer import train

    return train(experiment)


def _refuse_bad_ranks() -> None:
    """Accelerate and torch take what a launcher has set as numbers, without a look."""
    for name, least in LAUNCHERS.items():
        value = os.environ.get(name, str(least))
        if not re.fullmatch("-?[0-9]{1,9}", value) or int(value) < least:
            wanted = "a number" if least < 0 else f"a number of at least {least}"
            raise GanscaleError(
                f"{name}={value} in the environment is not {wanted}: a launcher sets it "
                f"(accelerate launch, torchrun, srun); without one, unset {name}"
            )


def _submit(options: argparse.Namespace) -> None:
    """Hand a training job to Slurm; it goes on by itself until its steps are done."""
    from ganscale.commands.submit import run

    run(options)


def _sweep(options: argparse.Namespace) -> int:
    """Train one run of a grid, or show how far all of them are."""
    from ganscale.runs.sweep import Sweep

    sweep = Sweep.load(options.grid)
    if options.task is not None:
        experiment = sweep.run(options.task, options.overrides)
        if options.folder:
            print(experiment.folder)
            return 0
        _refuse_bad_ranks()
        return _train_unless_finished(experiment)
    from rich.console import Console

    width = max(120, shutil.get_terminal_size().columns)
    Console(width=width).print(sweep.table(options.overrides))
    return 0


def _stop(options: argparse.Namespace) -> None:
    """Ask a run, wherever its processes are, to save and end."""
    from ganscale.runs.run_folder import STOP, RunFolder

    RunFolder(options.run).ask(STOP)
    print(f"{options.run}: asked to save and end")


def _save(options: argparse.Namespace) -> None:
    """Ask a run, wherever its processes are, to write a checkpoint now."""
    from ganscale.runs.run_folder import SAVE, RunFolder

    RunFolder(options.run).ask(SAVE)
    print(f"{options.run}: asked for a checkpoint")


def _config(options: argparse.Namespace) -> None:
    """Print an experiment with everything that it leaves to defaults."""
    from ganscale.config.load import json_schema, load, to_yaml
    from ganscale.monitoring.wandb_trial import named_after_trial

    path, overrides = options.experiment, options.overrides
    if path is not None and "=" in str(path):  # overrides alone, over the defaults
        path, overrides = None, [str(path), *overrides]
    if options.schema:
        print_text(json_schema())
        return
    experiment = named_after_trial(load(path, overrides))
    if options.folder:
        print(experiment.folder)
    else:
        print_text(to_yaml(experiment))


def _sample(options: argparse.Namespace) -> None:
    """Write images that a run's generator makes."""
    if not (options.out or options.grid or options.interpolate):
        raise GanscaleError(
            "say what to write: --out FILE.npz, --grid FILE.png or --interpolate FILE"
        )
    from ganscale.runs.sampler import Sampler

    sampler = Sampler(
        options.run,
        options.checkpoint,
        options.weights,
        options.seed,
        options.label,
        options.trust_code,
    )
    if options.out:
        print(sampler.save_npz(options.num or 10_000, options.out))
    if options.grid:
        shown = options.num or GRID_IMAGES
        print(sampler.save_grid(min(shown, GRID_IMAGES) if options.out else shown, options.grid))
    if options.interpolate:
        print(sampler.save_interpolation(options.interpolate))


def _evaluate(options: argparse.Namespace) -> None:
    """Score a checkpoint: FID, KID, IS, precision, recall, density, coverage."""
    from ganscale.runs.scoring import evaluate

    given = {
        "samples": options.num,
        "features": options.features,
        "inception_weights": options.inception_weights,
    }
    changed = {key: value for key, value in given.items() if value is not None}
    name, scores = evaluate(options.run, options.checkpoint, changed, options.trust_code)
    print(printable(f"{name}: {scores}"))  # a set names itself


def _export(options: argparse.Namespace) -> None:
    """Write a run's generator for other programs, with a model card."""
    from ganscale.runs.export import export

    folder = options.out or options.run / "exports" / options.format
    print(export(options.run, options.checkpoint, options.format, folder, options.trust_code))


def _report(options: argparse.Namespace) -> None:
    """Write a run's report.html anew."""
    from ganscale.monitoring.environment import environment
    from ganscale.runs.report import write_report
    from ganscale.runs.run_folder import RunFolder

    folder = RunFolder(options.run)
    experiment = folder.experiment()
    folder.refuse_links()
    print(write_report(options.run, experiment, environment()))


def _doctor(options: argparse.Namespace) -> int:
    """Say what this machine has, what would not work, and how to mend it."""
    from ganscale.commands.doctor import run

    return run()
