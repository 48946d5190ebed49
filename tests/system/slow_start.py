"""`ganscale` where rank 0 starts seconds later than the others, as on a busy machine."""

import os
import time

from ganscale.cli import run

if os.environ["RANK"] == "0":
    time.sleep(3)

if __name__ == "__main__":
    run()
