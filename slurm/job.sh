# Functions that the batch scripts share. They source this file from the project's folder: a clone, or
# what `ganscale init` has laid out.
# shellcheck shell=bash

GANSCALE_ENGINE=${GANSCALE_ENGINE:-ddp}
GANSCALE_PREFIX=${GANSCALE_PREFIX:-}
GANSCALE_SRUN=${GANSCALE_SRUN:-}
GANSCALE_MAX_REQUEUES=${GANSCALE_MAX_REQUEUES:-100}
RESEND_S=5     # between signals, since one that arrives while a process starts is lost
LAST_CALL_S=15 # before the time limit, after which the job cannot be requeued

# If the signal arrives before the processes have started, they are asked to stop right away.
stopped=
trap 'stopped=1' USR1

say() { echo "$(date +%H:%M:%S) slurm: $*"; }

# Puts the environment of ganscale on PATH and applies the site's own settings.
enter_environment() {
    if [ -z "$GANSCALE_PREFIX" ]; then
        # shellcheck source=launch/path.sh
        . launch/path.sh
    fi
    if [ -f slurm/site.sh ]; then
        # shellcheck disable=SC1091
        . slurm/site.sh
    fi
}

# Sets the address at which the processes meet. The port is derived from the job's number, so that
# two jobs on one node use different ports. The address is Slurm's address of the first node, because
# node names need not be known to DNS.
set_rendezvous() {
    local first
    first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    MASTER_ADDR=$(scontrol show node "$first" | grep -o 'NodeAddr=[^ ]*' | cut -d= -f2)
    MASTER_PORT=$((10000 + SLURM_JOB_ID % 20000))
    TASKS_PER_NODE=${SLURM_GPUS_ON_NODE:-1}
    WORLD_SIZE=$((SLURM_JOB_NUM_NODES * TASKS_PER_NODE))
    export MASTER_ADDR MASTER_PORT WORLD_SIZE TASKS_PER_NODE GANSCALE_ENGINE GANSCALE_PREFIX
    GANSCALE_LOGS=slurm-$SLURM_JOB_NAME-$SLURM_JOB_ID
    mkdir -p "$GANSCALE_LOGS"
    rm -f "$GANSCALE_LOGS/failed"
    export GANSCALE_LOGS
}

print_environment() {
    say "job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)), on $SLURM_JOB_NODELIST; the nodes' logs are in $GANSCALE_LOGS"
    [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || env | grep -E '^(MASTER|WORLD|TASKS|GANSCALE|NCCL|GLOO|OMP|SLURM_(JOB|GPUS|CPUS))' | sort
}

# Replaces this shell with an srun that runs `ganscale "$@"` on all ranks. srun returns the highest of
# their exit codes.
on_all_ranks() {
    # shellcheck disable=SC2086 # several options in one variable
    exec srun --ntasks="$WORLD_SIZE" --ntasks-per-node="$TASKS_PER_NODE" --overcommit \
        --cpu-bind=none --kill-on-bad-exit=1 $GANSCALE_SRUN bash slurm/rank.sh "$@"
}

# Runs a command until it ends, and forwards the signals that ask it to end. Afterwards, `stopped` is
# set if Slurm warned of the time limit, and `code` is the command's exit code.
run_until_signalled() {
    local end
    end=$(date -d "$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %e)" +%s 2>/dev/null || echo 0)
    "$@" &
    step=$!
    trap 'stopped=1; say "the time limit is near: asking all processes to save and stop"' USR1
    trap 'say "asked to stop"; kill -TERM "$step" 2>/dev/null || true' TERM
    code=0
    while kill -0 "$step" 2>/dev/null; do
        # srun forwards the signal to every process.
        [ -z "$stopped" ] || kill -USR1 "$step" 2>/dev/null || true
        if [ -n "$stopped" ] && [ "$end" -gt 0 ] && [ "$(date +%s)" -ge $((end - LAST_CALL_S)) ]; then
            say "a node does not respond to srun: not waiting for it any longer"
            kill -KILL "$step" 2>/dev/null || true
        fi
        sleep "$RESEND_S" &
        wait -n "$step" $! && code=0 || code=$?
        kill $! 2>/dev/null || true
    done
    wait "$step" && code=0 || code=$?
}

# Requeues the job after a signal or a loss of contact, as long as each start makes progress. A job
# that failed with an error of its own, or that a user cancelled, is not requeued.
requeue_or_end() {
    local run=$1 newest state
    say "the processes ended with code $code"
    if [ -s "$GANSCALE_LOGS/failed" ]; then
        say "$(head -n 1 "$GANSCALE_LOGS/failed"): not requeued"
        exit 1
    fi
    if [ "$code" -lt 128 ] && [ "$code" -ne 75 ]; then exit "$code"; fi
    state=$(squeue --noheader --jobs "$SLURM_JOB_ID" --states all --format %T || true)
    # SIGNALING is the state of a running job while a node has not yet acknowledged a signal.
    if [[ ! $state =~ ^(RUNNING|SIGNALING)$ ]]; then
        say "the job is $state: Slurm decides what happens to it"
        exit "$code"
    fi
    newest=$(find "$run/checkpoints" -maxdepth 1 -name 'step-*' 2>/dev/null | sort | tail -n 1)
    if [ -z "$newest" ] || [ "$newest" = "$(cat "$GANSCALE_LOGS/newest" 2>/dev/null)" ]; then
        say "no new checkpoint since the job last started: not requeued"
        exit "$code"
    fi
    echo "$newest" >"$GANSCALE_LOGS/newest"
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$GANSCALE_MAX_REQUEUES" ]; then
        say "already requeued $SLURM_RESTART_COUNT times (GANSCALE_MAX_REQUEUES): not requeued again"
        exit "$code"
    fi
    say "requeued; it resumes from $newest"
    trap '' TERM
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # until Slurm kills this start of the job
}
