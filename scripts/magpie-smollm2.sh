#!/usr/bin/env bash
# The main job on the embedded SmolLM2: problems, worked answers, an SFT file. It proves the machinery, not the data.
#   bash scripts/magpie-smollm2.sh [TOTAL]        (64 problems by default)
# Needs nothing but Python 3.11+ and, the first time, a network. About 4 minutes on two cores, 3 more for the set-up.
# Run it again with the JOB_NAME that it printed to go on after an interruption. Settings: scripts/lib/main_job.sh.
set -euo pipefail

ARGUMENTS="[TOTAL]" RESUME_ARGUMENTS=" ${1:-64}"
set -- smollm2 "${1:-64}" # this launcher's model is fixed
source "$(dirname "${BASH_SOURCE[0]}")/lib/main_job.sh"
