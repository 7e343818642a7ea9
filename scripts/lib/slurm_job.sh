#!/usr/bin/env bash
# What the jobs of scripts/slurm share; sourced by them. Slurm runs a copy of the submitted script, so the project is found from
# where it was submitted (or PROJECT). A job keeps its name over requeues, and with it its files: it goes on where it stopped.
#   MODEL, NUM_PROBLEMS   what is asked of which model (defaults in the script); other settings: scripts/lib/main_job.sh
#   JOB_NAME              default: Slurm's name and number of the job, the same after a requeue
set -euo pipefail

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  printf 'error: bash %s is too old: 4.4 or newer is needed\n' "$BASH_VERSION" >&2
  exit 2
fi
export PROJECT=${PROJECT:-${SLURM_SUBMIT_DIR:-$PWD}}
if [[ ! -f $PROJECT/exp/serve.py ]]; then
  printf 'error: %s is not the project. Run sbatch in its folder, or set PROJECT\n' "$PROJECT" >&2
  exit 2
fi
: "${SLURM_JOB_ID:?this is a job for sbatch}"
export JOB_NAME=${JOB_NAME:-${SLURM_JOB_NAME:-magpie}_$SLURM_JOB_ID} DATA_DIR=${DATA_DIR:-$PROJECT/data}
export JOB_DIR=$DATA_DIR/$JOB_NAME VENV_PYTHON=$PROJECT/.venv/bin/python SEED=${SEED:-0}
MAGPIE_API_KEY=${MAGPIE_API_KEY:-$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')} # in the environment, never on a command line
export MAGPIE_API_KEY
mkdir -p "$JOB_DIR"

set -m # what is started in the background is a process group of its own, which can be ended whole
started=() again=''

# Ends everything that this script has started, gently; Slurm kills what is left after its own KillWait.
end_all() {
  local pid
  for pid in "${started[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || :; done
  for pid in "${started[@]}"; do await "$pid" || :; done
  started=()
}

# Waits for a process, also when a signal comes in between, and returns its exit code.
await() {
  local code
  while :; do
    wait "$1" && code=0 || code=$?
    kill -0 "$1" 2>/dev/null || return "$code"
  done
}

# Starts a command in the background; its process is then the last of `started`.
start() {
  "$@" &
  started+=($!)
}

trap 'again=1; exit 143' USR1 # the time is nearly over (--signal=B:USR1@120): stop, and go on in a new run
trap 'exit 143' TERM INT      # cancelled or preempted: stop; Slurm itself puts a preempted job back into the queue
trap 'end_all; [[ -z $again ]] || scontrol requeue "$SLURM_JOB_ID"' EXIT

# Runs the launcher to its end and ends with its exit code.
run_to_the_end() {
  local code=0
  start "$@"
  await "${started[-1]}" || code=$?
  exit "$code"
}
