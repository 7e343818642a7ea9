#!/usr/bin/env bash
# Preference pairs out of any file of problems (`instruction`): what scripts/align.sh does for a job, beside the file. Problems are
# cleaned and copies dropped before anything is answered.
#   bash scripts/magpie_po.sh FILE [--model MODEL] [--num_responses 5] [--strategy verified|consensus|reward]
#                             [--reward_model MODEL] [--pairs_per_problem 1] [--formats "dpo sharegpt_dpo kto"] [--temperature 0.8]
# The model is by default the one that the file's records name. A `reference_answer` in the records tells right from wrong, without
# one a vote does. Run it again to resume. Settings, also as environment variables: configs/jobs/align.yaml.
'''':; [ -n "${BASH_VERSION:-}" ] || { echo "error: this is for bash: bash $0" >&2; exit 2; } # for sh; and python reads a string
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/launcher.sh"
launch align --file -- "$@"
'''; raise SystemExit("error: this is for bash: bash " + __file__)  # bash does not come here'
