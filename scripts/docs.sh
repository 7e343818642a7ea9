#!/usr/bin/env bash
# Updates the pages of docs/ from the programs: their flags, from --help, and the plans of exp/plan.py. Run it after changing a
# flag or a figure of configs/planning.yaml; takes seconds.
set -euo pipefail
[[ ${1:-} != -h && ${1:-} != --help ]] || { sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit; }
cd "$(dirname "${BASH_SOURCE[0]}")/.."

.venv/bin/python scripts/docs.py
