#!/usr/bin/env bash
# One process of a job, started by srun: what it has to know of the others, and then ganscale.
set -euo pipefail
trap '' USR1 # until ganscale has a handler of its own: it would otherwise die of it

if [ "$WORLD_SIZE" -gt 1 ] || [ "$GANSCALE_ENGINE" != ddp ]; then
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID LOCAL_WORLD_SIZE=$TASKS_PER_NODE
else
    unset WORLD_SIZE MASTER_ADDR MASTER_PORT
fi
if [ "$GANSCALE_ENGINE" != ddp ]; then
    export ACCELERATE_USE_DEEPSPEED=true
    export ACCELERATE_DEEPSPEED_CONFIG_FILE=configs/deepspeed/$GANSCALE_ENGINE.json
fi

# The job's log has what all processes say (rank 0 all, the others errors); so has each node's.
exec > >(trap '' TERM USR1 INT; exec tee -a "$GANSCALE_LOGS/$SLURMD_NODENAME.log") 2>&1
# shellcheck disable=SC2086 # a prefix of several words
exec $GANSCALE_PREFIX ganscale "$@"
