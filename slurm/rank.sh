#!/usr/bin/env bash
# Runs one process of a job, started by srun: sets what it must know about the others, then runs ganscale.
set -euo pipefail
ganscale_pid=
trap '[ -z "$ganscale_pid" ] || kill -USR1 "$ganscale_pid" 2>/dev/null || true' USR1
trap '[ -z "$ganscale_pid" ] || kill -TERM "$ganscale_pid" 2>/dev/null || true' TERM

# DeepSpeed needs a process group even for a single process.
if [ "$WORLD_SIZE" -gt 1 ] || [[ $GANSCALE_ENGINE == zero* ]]; then
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID LOCAL_WORLD_SIZE=$TASKS_PER_NODE
    export GROUP_RANK=$SLURM_NODEID
else
    unset WORLD_SIZE MASTER_ADDR MASTER_PORT
fi

# All output goes to the job's log and to the node's (rank 0 logs everything, other ranks only errors).
exec > >(trap '' TERM USR1 INT; exec tee -a "$GANSCALE_LOGS/$SLURMD_NODENAME.log") 2>&1
# Until ganscale has its own handler, the signal that asks it to save and stop must not kill it.
# shellcheck disable=SC2086 # a prefix of several words
(trap '' USR1; exec $GANSCALE_PREFIX ganscale "$@") &
ganscale_pid=$!
code=0
while kill -0 "$ganscale_pid" 2>/dev/null; do wait "$ganscale_pid" && code=0 || code=$?; done
wait "$ganscale_pid" && code=0 || code=$?

# srun returns only the highest code of all ranks, which is that of the ranks it killed because
# another one failed. Therefore the failure itself is recorded here. Code 75 means that this rank lost
# contact with another one, so it is not this rank's own failure.
if [ "$code" -gt 0 ] && [ "$code" -lt 128 ] && [ "$code" -ne 75 ]; then
    echo "rank $SLURM_PROCID ended with code $code" >>"$GANSCALE_LOGS/failed"
fi
exit "$code"
