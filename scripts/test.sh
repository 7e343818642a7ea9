#!/usr/bin/env bash
# The one check: format, lint, types, shellcheck, tests. Sets everything up first; needs only Python 3.11+.
# Under 15 minutes on two cores without a GPU or AVX-512, set-up and all.
#   --quick  without the slow parts (the real engine, Ray, trainers); under 4 minutes
#   --long   only what goes beyond the check: more real engines, more kills, more steps; by hand, before a release
# More arguments go to pytest: bash scripts/test.sh tests/test_records.py
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
  --quick) set -- --ignore tests/engine --ignore tests/cluster --ignore tests/trainers "${@:2}" ;;
  --long) set -- -m long "${@:2}" ;;
esac
bash scripts/setup.sh --dev
export PATH="$PWD/.venv/bin:$PATH"
unset PYTHONDONTWRITEBYTECODE # hundreds of processes import the same packages

ruff format --check .
ruff check .
mypy exp benchmarks
lint-imports
shellcheck -x scripts/*.sh scripts/lib/*.sh scripts/slurm/*.sbatch .ci/run
pytest -n 2 --durations 10 "$@"
