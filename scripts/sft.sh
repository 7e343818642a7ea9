#!/usr/bin/env bash
# A data set for supervised fine-tuning out of a finished main job: votes -> tags -> verified answers -> duplicates -> benchmarks
# -> filter -> export. JOB is a name under data/ or a folder; the data set is the folder JOB_sft in it, with a data card.
#   bash scripts/sft.sh JOB [--votes 4] [--model MODEL] [--benchmarks "math500 my_tests.csv"] [--filter sft] [--format messages]
#                       [--missions "difficulty quality language"] [--test_share 0.05] [--push_to_hub OWNER/NAME]
# The model (default: the job's) answers every problem --votes times and tags it: on the embedded model about 8 minutes for 64
# problems on two cores. Run it again to go on after an interruption. Further settings, and MAGPIE_BASE_URL: scripts/lib/sft_stages.sh.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

[[ $# -gt 0 && $1 != --* ]] || fail "name a job first: bash scripts/sft.sh JOB [--votes 4] …"
given=("$@") job=$1
shift
while [[ $# -gt 0 ]]; do
  [[ $# -gt 1 ]] || fail "$1 needs a value"
  case $1 in
    --votes) VOTES=$2 ;;
    --model) MODEL=$2 ;;
    --benchmarks) BENCHMARKS=$2 ;;
    --filter) FILTER=$2 ;;
    --format) FORMAT=$2 ;;
    --missions) MISSIONS=$2 ;;
    --test_share | --push_to_hub) EXPORT_FLAGS="${EXPORT_FLAGS:-} $1 $2" ;;
    *) fail "unknown argument $1. See the head of scripts/sft.sh" ;;
  esac
  shift 2
done
[[ ${VOTES:-4} =~ ^[1-9][0-9]*$ ]] || fail "--votes $VOTES: it must be a whole number from 1"
[[ -d $job ]] || job=${DATA_DIR:-$PROJECT/data}/$job
[[ -d $job ]] || fail "$job: no such folder. Name a job under data/, or its folder"

bash "$PROJECT/scripts/setup.sh"
told=$("$VENV_PYTHON" -m magpie.runs.jobs "$job") || exit
{
  read -r model
  read -r PROBLEMS
  read -r ANSWERS
} <<<"$told"
JOB_DIR=$(cd "$job" && pwd)
export JOB_DIR PROBLEMS ANSWERS
export JOB_NAME=${JOB_DIR##*/} MODEL=${MODEL:-$model} MAGPIE_LOG=$JOB_DIR/job.log
export VOTES=${VOTES:-4} MISSIONS=${MISSIONS:-} BENCHMARKS=${BENCHMARKS:-} FILTER=${FILTER:-} FORMAT=${FORMAT:-}
export EXPORT_FLAGS=${EXPORT_FLAGS:-} SEED=${SEED:-0}

kept=(MAGPIE_BASE_URL RAY_ADDRESS DATA_DIR SEED VOTE_FLAGS TAG_FLAGS VERIFY_FLAGS DISTANCE_FLAGS FILTER_FLAGS "${SERVE_SETTINGS[@]}" EXPERT_PARALLEL ENGINE_FLAGS)
say "A data set of $JOB_NAME, $VOTES answers a problem by $MODEL. To go on after an interruption:"
say "  $(settings "${kept[@]}")bash $(printf '%q' "$0")$(printf ' %q' "${given[@]}")"

stages=(bash "$PROJECT/scripts/lib/sft_stages.sh")
"${stages[@]}" --check # bad settings are refused before a model is loaded
[[ ! -d $JOB_DIR/${JOB_NAME}_$(basename "${FILTER:-sft}" .yaml) ]] || exec "${stages[@]}" # what is left needs no model
served "${stages[@]}"
exec "${served[@]}"
