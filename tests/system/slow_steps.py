"""`ganscale` whose steps wait while the file SLOW exists: so long as it says, in seconds.

A test that interrupts a run holds it back until it has done so, however quick the machine is. The
run computes what it would have computed.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganscale.cli import run
from ganscale.training.update import GANStep, Statistics

SLOW = "GANSCALE_TEST_SLOW"
step = GANStep.__call__


def slow_step(self: GANStep, *arguments: Any, **more: Any) -> Statistics:
    with suppress(FileNotFoundError):
        time.sleep(float(Path(os.environ[SLOW]).read_text()))
    return step(self, *arguments, **more)


if __name__ == "__main__":
    GANStep.__call__ = slow_step  # type: ignore[method-assign]
    if sys.argv[1:2] == ["ganscale"]:  # as a prefix of a command
        del sys.argv[1]
    run()
