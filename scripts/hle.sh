#!/usr/bin/env bash
# Harder problems from a finished main job, for Humanity's Last Exam and similar tests: each is rewritten, up to --rounds times, and
# kept once votes show it to be harder than its parents and inside --band -> copies -> benchmarks, if named -> verified answers -> filter ->
# export. JOB is a name under data/ or a folder; the dataset is the folder JOB_hle in it. docs/harder.md explains the whole loop.
#   bash scripts/hle.sh JOB [--rounds 3] [--band "0.1 0.7"] [--total N] [--model MODEL] [--benchmarks "math500 hle"]
#                       [--filter hle] [--format messages]
# A child and each of its parents cost 8 to 32 responses. Rerun to resume. Settings, also as environment variables:
# configs/jobs/hle.yaml.
'''':; [ -n "${BASH_VERSION:-}" ] || { echo "error: this is for bash: bash $0" >&2; exit 2; } # for sh; and python reads a string
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/launcher.sh"
launch hle -- "$@"
'''; raise SystemExit("error: this is for bash: bash " + __file__)  # bash does not come here'
