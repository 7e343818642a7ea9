#!/usr/bin/env bash
# The main job with Qwen2-Math-7B-Instruct. Needs 17 GB of GPU memory (one card of 24 GB).
#   bash scripts/magpie-qwen2-math-7b.sh [MODEL] [TOTAL] [INS_TOP_P] [INS_TEMPERATURE] [RES_TOP_P] [RES_TEMPERATURE] [--all] [--preview]
# Defaults: Qwen/Qwen2-Math-7B-Instruct, 1000 problems, the sampling of its preset (configs/models). Settings: configs/jobs/main.yaml.
'''':; [ -n "${BASH_VERSION:-}" ] || { echo "error: this is for bash: bash $0" >&2; exit 2; } # for sh; and python reads a string
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/launcher.sh"
launch main --default model=Qwen/Qwen2-Math-7B-Instruct -- "$@"
'''; raise SystemExit("error: this is for bash: bash " + __file__)  # bash does not come here'
