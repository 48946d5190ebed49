#!/usr/bin/env bash
# Attack everything that reads data with damaged and hostile files, for as long as one likes.
#   ./launch/fuzz.sh MINUTES [--seed S] [--kind KIND]
# A fault is printed with its kind and seed: --kind and --seed start there again.
set -euo pipefail

case ${1:-} in
    '' | -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit ;;
esac

# shellcheck source=launch/environment.sh
. "$(dirname "$0")/environment.sh"

python -m tests.fuzz.campaign --minutes "$@"
