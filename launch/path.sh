# Puts the environment in which ganscale is installed first on PATH; the scripts beside this file and
# those in slurm/ source it. In a clone the environment is .venv, if there is one.
# shellcheck shell=bash

export PATH="$PWD/.venv/bin:$PATH"
