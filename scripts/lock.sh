#!/usr/bin/env bash
# Makes locks/cpu.txt and locks/gpu.txt, the complete pinned sets, from requirements-cpu.txt and requirements.txt, and locks/dev.txt,
# what requirements-dev.txt needs besides them. For those who change a requirement; users never need it. Seconds, after the set-up.
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One lock serves Python 3.11 to 3.14 on Linux x86-64 ([tool.uv] in pyproject.toml), so only the markers of Python
# versions matter: the others are cut.
lock() { # requirements, excluded packages, lock, further arguments
  local requirements=$1 excluded=$2 lock=$3
  shift 3
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --excludes "$excluded" "$@" \
    "$requirements" | sed -E "s/ and (platform_machine|platform_python_implementation|sys_platform|implementation_name) [=!]= '[^']*'//g
      s/ and python_full_version < '3.15'//; s/ ; python_full_version < '3.15'$//" >"$lock"
}
lock requirements-cpu.txt locks/excluded-cpu.txt locks/cpu.txt --override locks/overrides-cpu.txt --no-emit-package torch
lock requirements.txt locks/excluded.txt locks/gpu.txt
lock requirements-dev.txt locks/excluded-cpu.txt locks/dev.txt --override locks/overrides-cpu.txt --constraint locks/cpu.txt --no-emit-package torch
comm -13 <(sort locks/cpu.txt) <(sort locks/dev.txt) >locks/dev.tmp && mv locks/dev.tmp locks/dev.txt
wc -l locks/cpu.txt locks/gpu.txt locks/dev.txt
