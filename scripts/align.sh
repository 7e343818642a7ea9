#!/usr/bin/env bash
# Preference pairs (Align data) from a finished main job's problems: several responses -> verified -> rewards -> pairs -> export.
# JOB is a name under data/ or a folder.
#   bash scripts/align.sh JOB [--num_responses 5] [--strategy verified|consensus|concise|reward] [--reward_model MODEL]
#                         [--pairs_per_problem 1] [--formats "dpo sharegpt_dpo kto"] [--temperature 0.8] [--model MODEL]
#   bash scripts/align.sh JOB --round 2 --model FOLDER     the next round, with the model trained on the pairs of round 1
# Votes of the same model that the job already has (scripts/sft.sh) are reused, and only missing ones are requested.
# The model (default: the job's) responds to every problem --num_responses times: on the embedded model about 10 minutes for 64
# problems on two cores. Rerun to resume. Settings, also as environment variables: configs/jobs/align.yaml.
'''':; [ -n "${BASH_VERSION:-}" ] || { echo "error: this is for bash: bash $0" >&2; exit 2; } # for sh; and python reads a string
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/launcher.sh"
launch align -- "$@"
'''; raise SystemExit("error: this is for bash: bash " + __file__)  # bash does not come here'
