#!/usr/bin/env bash
# What the launchers share; sourced by them with their arguments.
fail() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || fail "bash $BASH_VERSION is too old: 4.4 or newer is needed"
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# shellcheck source=scripts/lib/help.sh
source "$PROJECT/scripts/lib/help.sh"

# launch KIND [FLAGS of exp/run_job.py…] -- ARGUMENTS…: the set-up, then the job.
launch() {
  bash "$PROJECT/scripts/setup.sh"
  exec "$PROJECT/.venv/bin/python" "$PROJECT/exp/run_job.py" "$1" --launcher "$0" "${@:2}"
}
