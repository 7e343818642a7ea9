#!/usr/bin/env bash
# Tags a file of problems: validity, difficulty, quality, classification, domain, safety, reward, language.
#   bash scripts/unitag.sh FILE [all|MISSION] [DEVICE] [MODEL]
# Tags go to FILE_tagged.jsonl beside it; existing tags are kept, and another mission is added. Defaults: all (every mission that
# can be done; it names those it skips), every GPU, the model that wrote the file. Several missions: "difficulty quality".
# DEVICE: GPUs by number (0 or 0,1). MODEL: a language model; for safety a guard model, for reward a reward model.
# Environment, all optional: GUARD_MODEL, REWARD_MODEL (for all), MAGPIE_BASE_URL and MAGPIE_API_KEY (a server of MODEL),
# TAG_FLAGS (extra flags for exp/unitag.py, as on a command line). Rerun to resume.
'''':; [ -n "${BASH_VERSION:-}" ] || { echo "error: this is for bash: bash $0" >&2; exit 2; } # for sh; and python reads a string
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/launcher.sh"
[[ $# -gt 0 && $1 != --* ]] || fail "name a file of problems first: bash scripts/unitag.sh FILE [all|MISSION] [DEVICE] [MODEL]"
[[ $# -le 4 ]] || fail "unknown argument $5. See bash scripts/unitag.sh --help"
FILE=$1 MODEL=${4:-}
[[ -n ${3:-} ]] && export CUDA_VISIBLE_DEVICES=$3
bash "$PROJECT/scripts/setup.sh"
export MAGPIE_LOG=${MAGPIE_LOG:-$(dirname "$FILE")/tagging.log}

read -ra missions <<<"${2:-all}"
mapfile -t flags < <(xargs -rn1 printf '%s\n' <<<"${TAG_FLAGS:-}") # as a shell splits them, quotes and all; nothing in it is run
[[ -n ${GUARD_MODEL:-} ]] && flags+=(--guard_model "$GUARD_MODEL")
if [[ ${2:-} == reward ]]; then
  REWARD_MODEL=${MODEL:-${REWARD_MODEL:-}}
elif [[ -n $MODEL ]]; then
  flags+=(--model_path "$MODEL")
fi
[[ -n ${REWARD_MODEL:-} ]] && flags+=(--reward_model "$REWARD_MODEL")
exec "$PROJECT/.venv/bin/python" "$PROJECT/exp/unitag.py" --input_file "$FILE" --tag_mission "${missions[@]}" "${flags[@]}"
'''; raise SystemExit("error: this is for bash: bash " + __file__)  # bash does not come here'
