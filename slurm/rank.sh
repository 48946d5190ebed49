#!/usr/bin/env bash
# One process of a job, started by srun: what it has to know of the others, and then ganscale.
set -euo pipefail
ganscale_pid=
trap '[ -z "$ganscale_pid" ] || kill -USR1 "$ganscale_pid" 2>/dev/null || true' USR1
trap '[ -z "$ganscale_pid" ] || kill -TERM "$ganscale_pid" 2>/dev/null || true' TERM

# DeepSpeed wants a group of processes, also of one.
if [ "$WORLD_SIZE" -gt 1 ] || [[ $GANSCALE_ENGINE == zero* ]]; then
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID LOCAL_WORLD_SIZE=$TASKS_PER_NODE
    export GROUP_RANK=$SLURM_NODEID
else
    unset WORLD_SIZE MASTER_ADDR MASTER_PORT
fi

# The job's log has what all processes say (rank 0 all, the others errors); so has each node's.
exec > >(trap '' TERM USR1 INT; exec tee -a "$GANSCALE_LOGS/$SLURMD_NODENAME.log") 2>&1
# Until ganscale has handlers of its own it must not die of what asks it to stop.
# shellcheck disable=SC2086 # a prefix of several words
(trap '' USR1; exec $GANSCALE_PREFIX ganscale "$@") &
ganscale_pid=$!
code=0
while kill -0 "$ganscale_pid" 2>/dev/null; do wait "$ganscale_pid" && code=0 || code=$?; done
wait "$ganscale_pid" && code=0 || code=$?

# Of all ranks' codes srun knows the highest, which is that of those it has killed for another's
# error: the error itself is noted here. 75 is a loss of contact, which is none of this rank's.
if [ "$code" -gt 0 ] && [ "$code" -lt 128 ] && [ "$code" -ne 75 ]; then
    echo "rank $SLURM_PROCID ended with code $code" >>"$GANSCALE_LOGS/failed"
fi
exit "$code"
