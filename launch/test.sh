#!/usr/bin/env bash
# The same environment as the quickstart, then lint, types and tests. Arguments go to pytest.
set -euo pipefail

# shellcheck source=launch/environment.sh
. "$(dirname "$0")/environment.sh"

ruff check .
ruff format --check .
mypy
python -m pytest -n auto --dist worksteal "$@"
