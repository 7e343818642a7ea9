#!/usr/bin/env bash
# Makes locks/cpu.txt and locks/gpu.txt, the complete pinned sets, from requirements-cpu.txt and requirements.txt.
# For those who change a requirement; users never need it. Needs uv (pip install uv). Seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One lock serves Python 3.11 to 3.14 on Linux x86-64 ([tool.uv] in pyproject.toml), so only the markers that tell Python
# versions apart say anything: the others are cut.
lock() { # requirements, excluded packages, lock, further arguments
  local requirements=$1 excluded=$2 lock=$3
  shift 3
  uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --excludes "$excluded" "$@" \
    "$requirements" | sed -E "s/ and (platform_machine|platform_python_implementation|sys_platform|implementation_name) [=!]= '[^']*'//g
      s/ and python_full_version < '3.15'//; s/ ; python_full_version < '3.15'$//" >"$lock"
}
lock requirements-cpu.txt locks/excluded-cpu.txt locks/cpu.txt --override locks/overrides-cpu.txt --no-emit-package torch
lock requirements.txt locks/excluded.txt locks/gpu.txt
wc -l locks/cpu.txt locks/gpu.txt
