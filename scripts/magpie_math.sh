#!/usr/bin/env bash
# The main job with any instruct model, from the hub or this machine: clean, deduplicated problems, checked for validity if the
# model judges (--judge, --no-judge; default: its preset), responses, an SFT file; with --all also a dataset.
#   bash scripts/magpie_math.sh [MODEL] [TOTAL] [INS_TOP_P] [INS_TEMPERATURE] [RES_TOP_P] [RES_TEMPERATURE] [--all] [--preview]
# A model must be named. Defaults: 1000 problems that passed cleaning, the model's own sampling presets (configs/models).
# Settings: configs/jobs/main.yaml.
'''':; [ -n "${BASH_VERSION:-}" ] || { echo "error: this is for bash: bash $0" >&2; exit 2; } # for sh; and python reads a string
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/launcher.sh"
launch main -- "$@"
'''; raise SystemExit("error: this is for bash: bash " + __file__)  # bash does not come here'
