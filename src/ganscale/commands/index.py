"""Make manifest and index for WebDataset shards made elsewhere."""

import argparse

from ganscale.commands.arguments import location, path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the shards and the folder that describes them."""
    parser.add_argument(
        "shards", nargs="+", type=location, help="tars, addresses, folders or brace patterns"
    )
    parser.add_argument("--out", type=path, required=True, help="folder for manifest and index")
    parser.add_argument("--label", help="key of the class number in each sample's JSON member")


def run(options: argparse.Namespace) -> None:
    """Index the shards, write the manifest into the folder and print a summary."""
    from ganscale.data.inspection import summary
    from ganscale.data.packing.foreign_shards import expand_shards, index_shards

    manifest = index_shards(expand_shards(options.shards), options.out, options.label)
    print("\n".join(summary(str(options.out), manifest)))
