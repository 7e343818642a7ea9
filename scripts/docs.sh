#!/usr/bin/env bash
# Updates the pages of docs/ from the programs: their flags, from --help, and the plans of exp/plan.py. Run it after changing a
# flag or a figure of configs/planning.yaml; takes seconds.
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

.venv/bin/python scripts/docs.py
