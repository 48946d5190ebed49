"""`ganscale` where rank 1's file system does not yet show that the run is done."""

import os

from ganscale.cli import run
from ganscale.runs.run_folder import RunFolder

if os.environ["RANK"] == "1":
    RunFolder.is_finished = lambda *_: False  # type: ignore[method-assign]

if __name__ == "__main__":
    run()
