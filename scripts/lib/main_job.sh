#!/usr/bin/env bash
# The body of every main-job launcher, which sets MODEL and TOTAL and sources this file: set-up, one server, and
# scripts/lib/main_stages.sh against it. Environment, all optional:
#   JOB_NAME         the job's folder and stem (default: MODEL_TIME); the same name again goes on with that job
#   DATA_DIR         where job folders are (default: data/)
#   MAGPIE_BASE_URL  use the server(s) at this URL, several separated by commas, instead of starting one; key: MAGPIE_API_KEY
#   PREFLIGHT        samples checked before the rest, 0 for none (default 20)
#   SEED             seed of the run (default 0)
#   INS_FLAGS, RES_FLAGS   more flags for gen_ins.py and gen_res.py, as on a command line
set -euo pipefail

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bash "$PROJECT/scripts/setup.sh"
PYTHON=$PROJECT/.venv/bin/python

export PYTHON PROJECT
export SEED=${SEED:-0} PREFLIGHT=${PREFLIGHT:-20} INS_FLAGS=${INS_FLAGS:-} RES_FLAGS=${RES_FLAGS:-}
export JOB_NAME=${JOB_NAME:-${MODEL##*/}_$(date +%Y%m%d_%H%M%S)}
export JOB_DIR=${DATA_DIR:-$PROJECT/data}/$JOB_NAME
export MAGPIE_LOG=$JOB_DIR/job.log

if ! mkdir -p "$JOB_DIR"; then
  printf 'error: cannot make the folder %s. Choose another DATA_DIR or JOB_NAME\n' "$JOB_DIR" >&2
  exit 2
fi
printf 'Job %s (to go on after an interruption: JOB_NAME=%s bash %s %s)\n' "$JOB_NAME" "$JOB_NAME" "$0" "${*:-}" |
  tee -a "$MAGPIE_LOG" >&2

stages=(bash "$PROJECT/scripts/lib/main_stages.sh")
"${stages[@]}" --check # refuses bad settings before a model is loaded
if [[ -n ${MAGPIE_BASE_URL:-} || -f $JOB_DIR/${JOB_NAME}_ins_res.jsonl ]]; then
  exec "${stages[@]}"
fi
exec "$PYTHON" "$PROJECT/exp/serve.py" "$MODEL" --log_dir "$JOB_DIR/logs" --seed "$SEED" -- "${stages[@]}"
