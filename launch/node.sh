#!/usr/bin/env bash
# Trains one run on several machines without Slurm. Run the same command on each machine, with its rank:
#   MACHINES=2 MACHINE_RANK=0 MAIN_ADDRESS=10.0.0.1 ./launch/node.sh ddp configs/mnist_dcgan.yaml [key=value …]
# The first argument is the engine: ddp, fsdp2, zero0 … zero3, or zero2_offload.
#   MAIN_PORT   29500; it must be free on the machine of rank 0
#   PROCESSES   processes per machine; default: one for each GPU, or one without GPUs
set -euo pipefail
cd "$(dirname "$0")/.."
for name in MACHINES MACHINE_RANK MAIN_ADDRESS; do
    [ -n "${!name:-}" ] || { echo "node: set $name; see the comment at the top of $0" >&2; exit 2; }
done
if [ $# -lt 2 ]; then
    echo "node: usage: ./launch/node.sh ENGINE EXPERIMENT [key=value …]; see the comment at the top of $0" >&2
    exit 2
fi
export GANSCALE_ENGINE=$1
shift
gpus=$(nvidia-smi -L 2>/dev/null | wc -l || true)
processes=${PROCESSES:-$((gpus > 0 ? gpus : 1))}
# shellcheck source=launch/path.sh
. launch/path.sh
exec accelerate launch --config_file "launch/accelerate/$([ "$gpus" -gt 0 ] && echo ddp || echo cpu_ddp).yaml" \
    --num_machines "$MACHINES" --machine_rank "$MACHINE_RANK" --num_processes "$((MACHINES * processes))" \
    --main_process_ip "$MAIN_ADDRESS" --main_process_port "${MAIN_PORT:-29500}" -m ganscale train "$@"
