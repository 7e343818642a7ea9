#!/usr/bin/env bash
# The main job with DeepSeek R1: clean, deduplicated, valid problems; responses with their chain of thought; an SFT file.
# `--no-judge` skips the validity check. Needs 805 GB of GPU memory (8 H200)
# or a server elsewhere (MAGPIE_BASE_URL); a distillation needs less: deepseek-ai/DeepSeek-R1-Distill-Qwen-32B, 73 GB.
#   bash scripts/magpie-deepseek-r1.sh [MODEL] [TOTAL] [INS_TOP_P] [INS_TEMPERATURE] [RES_TOP_P] [RES_TEMPERATURE] [--all] [--preview]
# Defaults: deepseek-ai/DeepSeek-R1, 1000 problems, the sampling of its preset (configs/models). Settings: configs/jobs/main.yaml.
'''':; [ -n "${BASH_VERSION:-}" ] || { echo "error: this is for bash: bash $0" >&2; exit 2; } # for sh; and python reads a string
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/launcher.sh"
launch main --default model=deepseek-ai/DeepSeek-R1 -- "$@"
'''; raise SystemExit("error: this is for bash: bash " + __file__)  # bash does not come here'
