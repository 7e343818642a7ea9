#!/usr/bin/env bash
# Preference pairs from any file of problems (`instruction`): what scripts/align.sh does for a job, written next to the file. Problems
# are cleaned and deduplicated before responses are generated.
#   bash scripts/magpie_po.sh FILE [--model MODEL] [--num_responses 5] [--strategy verified|consensus|reward]
#                             [--reward_model MODEL] [--pairs_per_problem 1] [--formats "dpo sharegpt_dpo kto"] [--temperature 0.8]
# The model is by default the one named in the file's records. A `reference_answer` in the records decides what is right; without
# one, the vote does. Rerun to resume. Settings, also as environment variables: configs/jobs/align.yaml.
'''':; [ -n "${BASH_VERSION:-}" ] || { echo "error: this is for bash: bash $0" >&2; exit 2; } # for sh; and python reads a string
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/launcher.sh"
launch align --file -- "$@"
'''; raise SystemExit("error: this is for bash: bash " + __file__)  # bash does not come here'
