"""`ganscale` on a machine where one rank, that of FULL_RANK, finds no free memory."""

import os

import psutil

from ganscale.cli import run

if os.environ["RANK"] == os.environ["FULL_RANK"]:
    found = psutil.virtual_memory
    psutil.virtual_memory = lambda: found()._replace(available=1000)

if __name__ == "__main__":
    run()
