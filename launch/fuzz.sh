#!/usr/bin/env bash
# Tests everything that reads data with damaged and malicious files, for as many minutes as you like.
#   ./launch/fuzz.sh MINUTES [--seed S] [--kind KIND]
# It prints each fault with its kind and seed; --kind and --seed reproduce it.
set -euo pipefail

case ${1:-} in
    '' | -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit ;;
esac

# shellcheck source=launch/environment.sh
. "$(dirname "$0")/environment.sh"

python -m tests.fuzz.campaign --minutes "$@"
