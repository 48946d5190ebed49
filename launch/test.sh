#!/usr/bin/env bash
# Runs linters, type checks and tests in the quickstart's environment. Arguments are passed to pytest.
set -euo pipefail

# shellcheck source=launch/environment.sh
. "$(dirname "$0")/environment.sh"

if command -v shellcheck >/dev/null; then
    shellcheck --external-sources .ci/run docker/*.sh launch/*.sh slurm/*.sh slurm/*.sbatch slurm/trial/ganscale
else
    echo "test: shellcheck is not installed; shell scripts are not checked"
fi
ruff check .
ruff format --check .
mypy
# Let Python keep what it compiles: each of some hundred processes imports this repository's files.
unset PYTHONDONTWRITEBYTECODE
# Distribute whole files: their tests share what is slow to start, such as a Slurm cluster. The order
# is that of tests/conftest.py; twice as many workers as cores, since many tests wait for something.
workers=$((2 * $(python -c 'import os; print(len(os.sched_getaffinity(0)))')))
python -m pytest -n "$workers" --dist loadfile --no-loadscope-reorder "$@"
