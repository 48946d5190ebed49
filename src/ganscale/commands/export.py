"""Write a run's generator for other programs, with a model card."""

import argparse

from ganscale.commands.arguments import (
    add_checkpoint,
    add_license,
    add_run,
    add_trust_code,
    path,
)

FORMATS = ("safetensors", "torch.export", "onnx", "pretrained", "space")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the checkpoint, the format and the folder."""
    add_run(parser)
    add_checkpoint(parser)
    parser.add_argument("--format", choices=FORMATS, default="safetensors")
    parser.add_argument("--out", type=path, help="folder (default: exports/FORMAT in the run's)")
    add_license(parser)
    add_trust_code(parser)


def run(options: argparse.Namespace) -> None:
    """Export the generator and print the file."""
    from ganscale.monitoring.progress import set_up_logging

    set_up_logging(rank=0)
    format, out, license = options.format, options.out, options.license
    if format == "space":
        from ganscale.pages.explore.space import export_space

        print(export_space(options.run, options.checkpoint, out, options.trust_code, license))
        return
    from ganscale.runs.export import export

    print(export(options.run, options.checkpoint, format, out, options.trust_code, license))
