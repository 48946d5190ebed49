"""The table of docs/engines.md: how far each engine ends from the game in float64 by hand.

    PYTHONPATH=. python bench/engines.py

Plays the cases of tests/system/engine_cases.py on every engine, on four processes of this machine.
"""

import argparse
import tempfile
from pathlib import Path

from ganscale.data.packing.named_sources import digits_source
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from tests.system.engine_rows import ENGINES, play, rows


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as work:
        digits = Path(work) / "digits"
        pack(digits_source(), digits, Packing(size=28, samples_per_shard=400), 1, lambda *_: None)
        print("| engine | game | precision | weights | gradient norms |\n|---|---|---|---|---|")
        for engine in ENGINES:
            play(engine, digits, Path(work) / engine)
            for row in rows(engine, digits, Path(work) / engine):
                print(
                    f"| {row.engine} | {row.case} | {row.precision} "
                    f"| {row.weights:.1e} | {row.gradient_norms:.1e} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
