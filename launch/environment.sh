# Makes and enters the environment `.venv` of this clone; sourced by the scripts beside it.
# Outside the clone nothing is touched but package caches.
# Set PYTHON to choose an interpreter (3.10 or newer).
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "launch: '$python' is not Python 3.10 or newer; set PYTHON to one that is" >&2
    exit 1
fi

# What is installed follows from these two files; their sum says whether it is installed.
wanted=$(cat pyproject.toml constraints.txt | cksum)
stamp=.venv/installed
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "launch: installing into $root/.venv"
    if command -v uv >/dev/null; then
        uv=uv
        [ -x .venv/bin/python ] || uv venv --quiet --python "$python" .venv
    else
        [ -x .venv/bin/python ] || "$python" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
        uv=.venv/bin/uv
    fi
    # torch and torchvision in one go, from one index: builds from two do not fit each other.
    "$uv" pip install --quiet --python .venv/bin/python --constraint constraints.txt --editable '.[dev]'
    echo "$wanted" >"$stamp"
fi
export PATH="$root/.venv/bin:$PATH"
