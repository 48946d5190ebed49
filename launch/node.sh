#!/usr/bin/env bash
# One run over several machines without Slurm: the same line on each of them, but for the rank.
#   MACHINES=2 MACHINE_RANK=0 MAIN_ADDRESS=10.0.0.1 ./launch/node.sh ddp configs/mnist_dcgan.yaml [key=value …]
# The first argument is a file of launch/accelerate: ddp, cpu_ddp, deepspeed_zero2, …
#   MAIN_PORT   29500, free on the machine of rank 0
#   PROCESSES   a machine: its GPUs, or 1
set -euo pipefail
cd "$(dirname "$0")/.."
for name in MACHINES MACHINE_RANK MAIN_ADDRESS; do
    [ -n "${!name:-}" ] || { echo "node: set $name; see the beginning of $0" >&2; exit 2; }
done
kind=${1:-}
if [ $# -lt 2 ] || [ ! -f "launch/accelerate/$kind.yaml" ]; then
    echo "node: ./launch/node.sh KIND EXPERIMENT [key=value …], KIND one of: $(cd launch/accelerate && echo *.yaml | sed 's/\.yaml//g')" >&2
    exit 2
fi
shift
gpus=$(nvidia-smi -L 2>/dev/null | wc -l || true)
processes=${PROCESSES:-$((gpus > 0 ? gpus : 1))}
multinode=()
[[ $kind != deepspeed* ]] || multinode=(--deepspeed_multinode_launcher standard)
PATH="$PWD/.venv/bin:$PATH"
exec accelerate launch --config_file "launch/accelerate/$kind.yaml" \
    --num_machines "$MACHINES" --machine_rank "$MACHINE_RANK" --num_processes "$((MACHINES * processes))" \
    --main_process_ip "$MAIN_ADDRESS" --main_process_port "${MAIN_PORT:-29500}" "${multinode[@]}" \
    -m ganscale train "$@"
