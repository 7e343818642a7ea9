#!/usr/bin/env bash
# Writes what the programs say into the pages of docs/: their flags, out of their own --help, and the plans of exp/plan.py. After a
# flag or a figure of configs/planning.yaml was changed; seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

.venv/bin/python scripts/docs.py
