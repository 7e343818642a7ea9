#!/usr/bin/env bash
# A dataset for supervised fine-tuning from a finished main job: duplicates (unless done) -> benchmarks, if named -> tags and
# validity (--judge, --no-judge; default: the model's preset) -> votes on the rest -> verified answers -> filter -> export.
# JOB is a name under data/ or a folder; the dataset is the folder JOB_sft in it, with a dataset card.
#   bash scripts/sft.sh JOB [--votes 4] [--model MODEL] [--benchmarks "math500 my_tests.csv"] [--filter sft] [--format messages]
#                       [--missions "difficulty quality language"] [--test_share 0.05] [--push_to_hub OWNER/NAME]
# The model (default: the job's) tags every problem and responds to it --votes times: on the embedded model about 8 minutes for 64
# problems on two cores. Rerun to resume. Settings, also as environment variables: configs/jobs/sft.yaml.
'''':; [ -n "${BASH_VERSION:-}" ] || { echo "error: this is for bash: bash $0" >&2; exit 2; } # for sh; and python reads a string
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/launcher.sh"
launch sft -- "$@"
'''; raise SystemExit("error: this is for bash: bash " + __file__)  # bash does not come here'
