#!/usr/bin/env bash
# The one check: format, lint, types, shellcheck, tests. Sets everything up first; nothing need be there but Python 3.11+.
# About 55 minutes on two cores without a GPU or AVX-512. More arguments go to pytest: bash scripts/test.sh tests/test_records.py
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh --dev
export PATH="$PWD/.venv/bin:$PATH"

ruff format --check .
ruff check .
mypy exp benchmarks
shellcheck -x scripts/*.sh scripts/lib/*.sh scripts/slurm/*.sbatch .ci/run
pytest -n 2 --dist loadscope "$@"
