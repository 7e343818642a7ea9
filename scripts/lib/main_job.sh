#!/usr/bin/env bash
# The body of every main-job launcher: set-up, one server, and scripts/lib/main_stages.sh against it. The launcher sets
# DEFAULT_MODEL and sources this file with its arguments, in Magpie's order:
#   MODEL TOTAL INS_TOP_P INS_TEMPERATURE RES_TOP_P RES_TEMPERATURE
# (problems' top_p and temperature, then the answers'; each may be left out or empty: then the model's preset decides).
# --all anywhere among them goes on to a data set, as scripts/sft.sh does, with the model loaded once; --no-all does not. The
# default is the launcher's (DEFAULT_ALL). Environment, all optional (scripts/lib/sft_stages.sh has those of --all):
#   JOB_NAME         the job's folder and stem (default: MODEL_TIME); the same name again goes on with that job
#   DATA_DIR         where job folders are (default: data/)
#   MAGPIE_BASE_URL  use the server(s) at this URL, several by commas or @FILE, instead of starting one; key: MAGPIE_API_KEY
#   PREFLIGHT        samples checked before the rest, 0 for none (default 20)
#   SEED             seed of the run (default 0)
#   TENSOR_PARALLEL, QUANTIZATION, MAX_MODEL_LEN, REPLICAS, ENGINE_FLAGS, …   how the engine holds the model (scripts/lib/common.sh)
#   INS_FLAGS, RES_FLAGS   more flags for gen_ins.py and gen_res.py, as on a command line
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bash "$PROJECT/scripts/setup.sh"

ALL=${DEFAULT_ALL:-0} rest=() given=("$@")
for argument in "$@"; do
  case $argument in
    --all) ALL=1 ;;
    --no-all) ALL=0 ;;
    *) rest+=("$argument") ;;
  esac
done
set -- "${rest[@]}"
export ALL
export MODEL=${1:-$DEFAULT_MODEL} TOTAL=${2:-1000}
export INS_TOP_P=${3:-} INS_TEMPERATURE=${4:-} RES_TOP_P=${5:-} RES_TEMPERATURE=${6:-}
export SEED=${SEED:-0} PREFLIGHT=${PREFLIGHT:-20} INS_FLAGS=${INS_FLAGS:-} RES_FLAGS=${RES_FLAGS:-}
export JOB_NAME=${JOB_NAME:-$(basename "$MODEL")_$(date +%Y%m%d_%H%M%S)}
[[ $JOB_NAME != */* ]] || fail "JOB_NAME is $JOB_NAME: it must have no slash. Choose another"
[[ $RES_FLAGS != *--num_responses* ]] ||
  fail "the main job makes one answer a problem. For more, run exp/gen_res.py --num_responses by hand"
export JOB_DIR=${DATA_DIR:-$PROJECT/data}/$JOB_NAME
export MAGPIE_LOG=$JOB_DIR/job.log

mkdir -p "$JOB_DIR" || fail "cannot make the folder $JOB_DIR. Choose another DATA_DIR or JOB_NAME"
kept=(MAGPIE_BASE_URL RAY_ADDRESS DATA_DIR JOB_NAME SEED INS_FLAGS RES_FLAGS "${SERVE_SETTINGS[@]}" EXPERT_PARALLEL ENGINE_FLAGS)
[[ $ALL == 1 ]] && kept+=("${SFT_SETTINGS[@]}")
again=${RESUME_ARGUMENTS-${given[*]:+$(printf ' %q' "${given[@]}")}}
say "Job $JOB_NAME: $TOTAL problems with $MODEL. To go on after an interruption:"
say "  $(settings "${kept[@]}")bash $(printf '%q' "$0")$again"

stages=(bash "$PROJECT/scripts/lib/main_stages.sh")
"${stages[@]}" --check || { # bad settings are refused before a model is loaded
  code=$?
  say "The order of the arguments: ${ARGUMENTS:-[MODEL] [TOTAL] [INS_TOP_P] [INS_TEMPERATURE] [RES_TOP_P] [RES_TEMPERATURE]}"
  exit "$code"
}
last=$JOB_DIR/${JOB_NAME}_ins_clean_res.jsonl
[[ $ALL == 1 ]] && last=$JOB_DIR/${JOB_NAME}_$(basename "${FILTER:-sft}" .yaml)
[[ ! -e $last ]] || exec "${stages[@]}" # what is left needs no model
served "${stages[@]}"
exec "${served[@]}"
