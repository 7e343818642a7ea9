#!/usr/bin/env bash
# The body of scripts/align.sh and scripts/magpie_po.sh, which say in KIND (job or file) what their first argument is and source this
# file: set-up, a server around the answers, then what needs none. Environment, all optional:
#   DATA_DIR         where job folders are (default: data/)
#   MAGPIE_BASE_URL  use the server(s) at this URL, several by commas or @FILE, instead of starting one; key: MAGPIE_API_KEY
#   SEED             seed of the run (default 0)
#   TENSOR_PARALLEL, QUANTIZATION, MAX_MODEL_LEN, REPLICAS, ENGINE_FLAGS, …   how the engine holds the model (scripts/lib/common.sh)
#   REWARD_MODEL     as --reward_model
#   RES_FLAGS, VERIFY_FLAGS, REWARD_FLAGS, PAIR_FLAGS, EXPORT_FLAGS   more flags for the stages, as on a command line
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -gt 0 && -n $1 && $1 != --* ]] || fail "name a $KIND first. See the head of $0"
given=("$@") source=$1
shift
RESPONSES=5 STRATEGY=verified TEMPERATURE='' REWARD_MODEL=${REWARD_MODEL:-} PAIRS=1 EXPORTS=dpo MODEL=''
while [[ $# -gt 0 ]]; do
  [[ $# -gt 1 ]] || fail "$1 needs a value"
  case $1 in
    --model) MODEL=$2 ;;
    --num_responses) RESPONSES=$2 ;;
    --temperature) TEMPERATURE=$2 ;;
    --strategy) STRATEGY=$2 ;;
    --reward_model) REWARD_MODEL=$2 ;;
    --pairs_per_problem) PAIRS=$2 ;;
    --formats) EXPORTS=$2 ;;
    *) fail "unknown argument $1. See the head of $0" ;;
  esac
  shift 2
done
[[ $RESPONSES =~ ^[1-9][0-9]*$ && $RESPONSES != 1 ]] || fail "--num_responses $RESPONSES: a pair needs a whole number from 2"
[[ $STRATEGY != reward || -n $REWARD_MODEL ]] || fail "--strategy reward needs --reward_model"
if [[ $KIND == job ]]; then
  [[ -d $source ]] || source=${DATA_DIR:-$PROJECT/data}/$source
  [[ -d $source ]] || fail "$source: no such folder. Name a job under data/, or its folder"
elif [[ -d $source ]]; then
  fail "$source: this is a folder. Name a file inside it, or use scripts/align.sh"
fi

bash "$PROJECT/scripts/setup.sh"
told=$("$VENV_PYTHON" -m magpie.runs.jobs "$source") || exit
{
  read -r known
  read -r PROBLEMS
} <<<"$told"
MODEL=${MODEL:-$known}
[[ -n $MODEL ]] || fail "$PROBLEMS does not say which model made it: name one with --model"
JOB_DIR=$(cd "$(dirname "$PROBLEMS")" && pwd)
export JOB_DIR PROBLEMS MODEL RESPONSES STRATEGY TEMPERATURE REWARD_MODEL PAIRS EXPORTS
export MAGPIE_LOG=$JOB_DIR/job.log SEED=${SEED:-0}
export RES_FLAGS=${RES_FLAGS:-} VERIFY_FLAGS=${VERIFY_FLAGS:-} REWARD_FLAGS=${REWARD_FLAGS:-} PAIR_FLAGS=${PAIR_FLAGS:-}
export EXPORT_FLAGS=${EXPORT_FLAGS:-}

kept=(MAGPIE_BASE_URL RAY_ADDRESS DATA_DIR SEED REWARD_MODEL RES_FLAGS VERIFY_FLAGS REWARD_FLAGS PAIR_FLAGS EXPORT_FLAGS "${SERVE_SETTINGS[@]}" EXPERT_PARALLEL ENGINE_FLAGS)
say "Pairs of $PROBLEMS, $RESPONSES answers a problem by $MODEL. To go on after an interruption:"
say "  $(settings "${kept[@]}")bash $(printf '%q' "$0")$(printf ' %q' "${given[@]}")"

stem=${PROBLEMS%.gz} stem=${stem%.zst} stem=${stem%.jsonl} stem=${stem%.json}
export ANSWERS=${stem}_${RESPONSES}res.jsonl REPORT=$JOB_DIR/report.html
[[ $KIND == job ]] || REPORT=${stem}_report.html # the folder is the user's own
stages=(bash "$PROJECT/scripts/lib/align_stages.sh")
"${stages[@]}" --check # bad settings are refused before a model is loaded
if [[ -f ${ANSWERS%.jsonl}_verified.jsonl ]]; then
  "${stages[@]}" answers
else
  served "${stages[@]}" answers
  "${served[@]}"
fi
exec "${stages[@]}" pairs # the server is gone: a reward model has the memory for itself
