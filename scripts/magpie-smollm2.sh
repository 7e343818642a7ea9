#!/usr/bin/env bash
# The whole chain with the embedded SmolLM2: clean, deduplicated problems, tags, responses, an SFT file; then votes, verified
# answers, filter, a dataset with its card. It is a smoke test, not a source of data.
#   bash scripts/magpie-smollm2.sh [TOTAL] [--no-all]        (64 problems by default; --no-all: only the main job, without tags)
# Needs nothing but Python 3.11+ and, the first time, a network. About 12 minutes on two cores (4 with --no-all), one more for the
# set-up. Rerun with the JOB_NAME that it printed to resume. Settings: configs/jobs/main.yaml and sft.yaml.
'''':; [ -n "${BASH_VERSION:-}" ] || { echo "error: this is for bash: bash $0" >&2; exit 2; } # for sh; and python reads a string
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/launcher.sh"
# (this model's opinions of quality mean nothing: the filter "finished" does not ask for them)
launch main --positional total --default model=smollm2 --default total=64 --default all=true --default filter=finished -- "$@"
'''; raise SystemExit("error: this is for bash: bash " + __file__)  # bash does not come here'
