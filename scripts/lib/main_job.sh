#!/usr/bin/env bash
# The body of every main-job launcher: set-up, one server, and scripts/lib/main_stages.sh against it. The launcher sets
# DEFAULT_MODEL and sources this file with its arguments, in Magpie's order:
#   MODEL TOTAL INS_TOP_P INS_TEMPERATURE RES_TOP_P RES_TEMPERATURE
# (problems' top_p and temperature, then the answers'; each may be left out or empty: then the model's preset decides).
# --all anywhere among them goes on to a data set, as scripts/sft.sh does, with the model loaded once; --no-all does not. The
# default is the launcher's (DEFAULT_ALL). Environment, all optional (scripts/lib/sft_stages.sh has those of --all):
#   JOB_NAME         the job's folder and stem (default: MODEL_TIME); the same name again goes on with that job
#   DATA_DIR         where job folders are (default: data/)
#   MAGPIE_BASE_URL  use the server(s) at this URL, several separated by commas, instead of starting one; key: MAGPIE_API_KEY
#   PREFLIGHT        samples checked before the rest, 0 for none (default 20)
#   SEED             seed of the run (default 0)
#   TENSOR_PARALLEL, QUANTIZATION, MAX_MODEL_LEN, ENGINE_FLAGS, …   how the engine holds the model (scripts/lib/serve_flags.sh)
#   INS_FLAGS, RES_FLAGS   more flags for gen_ins.py and gen_res.py, as on a command line
set -euo pipefail

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bash "$PROJECT/scripts/setup.sh"
PYTHON=$PROJECT/.venv/bin/python

ALL=${DEFAULT_ALL:-0} rest=() given=("$@")
for argument in "$@"; do
  case $argument in
    --all) ALL=1 ;;
    --no-all) ALL=0 ;;
    *) rest+=("$argument") ;;
  esac
done
set -- "${rest[@]}"
export PYTHON PROJECT ALL
export MODEL=${1:-$DEFAULT_MODEL} TOTAL=${2:-1000}
export INS_TOP_P=${3:-} INS_TEMPERATURE=${4:-} RES_TOP_P=${5:-} RES_TEMPERATURE=${6:-}
export SEED=${SEED:-0} PREFLIGHT=${PREFLIGHT:-20} INS_FLAGS=${INS_FLAGS:-} RES_FLAGS=${RES_FLAGS:-}
export JOB_NAME=${JOB_NAME:-$(basename "$MODEL")_$(date +%Y%m%d_%H%M%S)}
if [[ $JOB_NAME == */* ]]; then
  printf 'error: JOB_NAME is %q: it must have no slash. Choose another\n' "$JOB_NAME" >&2
  exit 2
fi
if [[ ${RES_FLAGS:-} == *--num_responses* ]]; then
  printf 'error: the main job makes one answer a problem. For more, run exp/gen_res.py --num_responses by hand\n' >&2
  exit 2
fi
export JOB_DIR=${DATA_DIR:-$PROJECT/data}/$JOB_NAME
export MAGPIE_LOG=$JOB_DIR/job.log

if ! mkdir -p "$JOB_DIR"; then
  printf 'error: cannot make the folder %s. Choose another DATA_DIR or JOB_NAME\n' "$JOB_DIR" >&2
  exit 2
fi
resume=
for name in DATA_DIR JOB_NAME SEED INS_FLAGS RES_FLAGS; do
  [[ -n ${!name:-} ]] && resume+=$(printf '%s=%q ' "$name" "${!name}")
done
printf 'Job %s: %s problems with %s. To go on after an interruption:\n  %sbash %q%s\n' "$JOB_NAME" "$TOTAL" "$MODEL" "$resume" \
  "$0" "${RESUME_ARGUMENTS-${given[*]:+$(printf ' %q' "${given[@]}")}}" | tee -a "$MAGPIE_LOG" >&2

stages=(bash "$PROJECT/scripts/lib/main_stages.sh")
"${stages[@]}" --check || { # bad settings are refused before a model is loaded
  code=$?
  printf 'The order of the arguments: %s\n' \
    "${ARGUMENTS:-[MODEL] [TOTAL] [INS_TOP_P] [INS_TEMPERATURE] [RES_TOP_P] [RES_TEMPERATURE]}" | tee -a "$MAGPIE_LOG" >&2
  exit "$code"
}
last=$JOB_DIR/${JOB_NAME}_ins_clean_res.jsonl
[[ $ALL == 1 ]] && last=$JOB_DIR/${JOB_NAME}_$(basename "${FILTER:-sft}" .yaml)
if [[ -n ${MAGPIE_BASE_URL:-} || -e $last ]]; then
  exec "${stages[@]}"
fi
source "$PROJECT/scripts/lib/serve_flags.sh"
serve=("$PYTHON" "$PROJECT/exp/serve.py" "$MODEL" --log_dir "$JOB_DIR/logs" --seed "$SEED" "${serve_flags[@]}")
exec "${serve[@]}" -- "${stages[@]}"
