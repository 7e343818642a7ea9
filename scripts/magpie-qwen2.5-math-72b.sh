#!/usr/bin/env bash
# The main job with Qwen2.5-Math-72B-Instruct. Needs 160 GB of GPU memory (2 A100 or H100 of 80 GB).
#   bash scripts/magpie-qwen2.5-math-72b.sh [MODEL] [TOTAL] [INS_TOP_P] [INS_TEMPERATURE] [RES_TOP_P] [RES_TEMPERATURE] [--all] [--preview]
# Defaults: Qwen/Qwen2.5-Math-72B-Instruct, 1000 problems, the sampling of its preset (configs/models). Settings: configs/jobs/main.yaml.
'''':; [ -n "${BASH_VERSION:-}" ] || { echo "error: this is for bash: bash $0" >&2; exit 2; } # for sh; and python reads a string
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/launcher.sh"
launch main --default model=Qwen/Qwen2.5-Math-72B-Instruct -- "$@"
'''; raise SystemExit("error: this is for bash: bash " + __file__)  # bash does not come here'
