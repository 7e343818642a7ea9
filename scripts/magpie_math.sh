#!/usr/bin/env bash
# The main job on any instruct model: Llama 3, or another of the hub or of this machine.
#   bash scripts/magpie_math.sh [MODEL] [TOTAL] [INS_TOP_P] [INS_TEMPERATURE] [RES_TOP_P] [RES_TEMPERATURE]
# A model must be named. Defaults: 1000 problems, the model's own sampling presets (configs/models). Settings: scripts/lib/main_job.sh.
set -euo pipefail

DEFAULT_MODEL=${1:?name a model: a hub id, a folder, or a file of configs/models}
source "$(dirname "${BASH_SOURCE[0]}")/lib/main_job.sh"
