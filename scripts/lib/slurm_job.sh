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
ours=() steps=() again=''
declare -A needed=() # a step's process and what it is: without it the launcher waits for nothing

# start COMMAND…: runs it in the background; its process is then the last of `ours`.
start() {
  "$@" &
  ours+=($!)
}

# step SRUN_ARGUMENTS…: starts a step of this job; its srun is then the last of `steps`.
step() {
  srun "$@" &
  steps+=($!)
}

running() { kill -0 "$1" 2>/dev/null; }

# gone_within SECONDS PROCESS…: waits until they have ended; false if one has not.
gone_within() {
  local ends=$((SECONDS + $1)) pid
  for pid in "${@:2}"; do
    while running "$pid"; do
      ((SECONDS < ends)) || return 1
      sleep 0.2
    done
  done
}

# send SIGNAL PROCESS…: to their whole groups.
send() {
  local pid
  for pid in "${@:2}"; do kill -s "$1" -- "-$pid" 2>/dev/null || :; done
}

# Ends everything that this script has started, gently, in less than the two minutes that Slurm gives: the launcher, then the
# steps that it uses. A srun that gets SIGTERM kills its tasks at once, so their signal comes by scancel, which with a signal and a
# job's number reaches all steps and not this script.
end_all() {
  trap '' USR1 TERM INT # it is ending already
  send TERM "${ours[@]}"
  gone_within 45 "${ours[@]}" || send KILL "${ours[@]}"
  gone_within 0 "${steps[@]}" && return 0 # (without the 0 it would return the exit code of the script)
  scancel --signal=TERM "$SLURM_JOB_ID" || :
  gone_within 40 "${steps[@]}" && return 0
  printf 'warning: what this job has started with srun does not end: killing it\n' >&2
  send TERM "${steps[@]}"
  gone_within 10 "${steps[@]}" || send KILL "${steps[@]}"
}

# lost STEP: ends the job for it.
lost() {
  local code=0
  wait "$1" || code=$?
  printf 'error: %s has ended (exit code %s): this job cannot go on without it. See above for why. To go on: JOB_NAME=%s sbatch …\n' \
    "${needed[$1]}" "$code" "$JOB_NAME" >&2
  exit 2
}

trap 'again=1; exit 143' USR1 # the time is nearly over (--signal=B:USR1@120): stop, and go on in a new run
trap 'exit 143' TERM INT      # cancelled or preempted: stop; Slurm itself puts a preempted job back into the queue
trap 'end_all; [[ -z $again ]] || scontrol requeue "$SLURM_JOB_ID"' EXIT

# Runs the launcher to its end and ends with its exit code, or earlier with a step that it needs.
run_to_the_end() {
  local launcher pid code=0
  start "$@"
  launcher=${ours[-1]}
  while running "$launcher"; do
    for pid in "${!needed[@]}"; do running "$pid" || lost "$pid"; done
    sleep 1
  done
  wait "$launcher" || code=$?
  exit "$code"
}
