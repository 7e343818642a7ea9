#!/usr/bin/env bash
# Tags a file of problems: difficulty, quality, classification, domain, safety, reward, language.
#   bash scripts/unitag.sh FILE [all|MISSION] [DEVICE] [MODEL]
# FILE_tagged.jsonl beside it gets the tags; tags that are there are kept, so another mission is added to them. Defaults: all (what
# can be done; it says what it leaves out), every GPU, the model that wrote the file. Several missions: "difficulty quality".
# DEVICE: GPUs by number (0 or 0,1). MODEL: a language model; for safety a guard model, for reward a reward model.
# Environment, all optional: GUARD_MODEL, REWARD_MODEL (for all), MAGPIE_BASE_URL and MAGPIE_API_KEY (a server that holds MODEL),
# TAG_FLAGS (more flags for exp/unitag.py, as on a command line). Run it again to go on after an interruption.
set -euo pipefail

FILE=${1:?name a file of problems: bash scripts/unitag.sh FILE [all|MISSION] [DEVICE] [MODEL]}
MISSION=${2:-all} DEVICE=${3:-} MODEL=${4:-}
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
bash "$PROJECT/scripts/setup.sh"
MAGPIE_LOG=${MAGPIE_LOG:-$(dirname "$FILE")/tagging.log}
export MAGPIE_LOG
[[ -n $DEVICE ]] && export CUDA_VISIBLE_DEVICES=$DEVICE

read -ra missions <<<"$MISSION"
mapfile -t flags < <(words "${TAG_FLAGS:-}")
[[ -n ${GUARD_MODEL:-} ]] && flags+=(--guard_model "$GUARD_MODEL")
if [[ $MISSION == reward ]]; then
  REWARD_MODEL=${MODEL:-${REWARD_MODEL:-}}
elif [[ -n $MODEL ]]; then
  flags+=(--model_path "$MODEL")
fi
[[ -n ${REWARD_MODEL:-} ]] && flags+=(--reward_model "$REWARD_MODEL")
run unitag --input_file "$FILE" --tag_mission "${missions[@]}" "${flags[@]}"
