#!/usr/bin/env bash
# What the launchers share; sourced by them and by their stages.
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# (PYTHON is what the user names for scripts/setup.sh)
VENV_PYTHON=$PROJECT/.venv/bin/python
export PROJECT VENV_PYTHON

# The settings of scripts/lib/sft_stages.sh, all from the environment.
# shellcheck disable=SC2034 # for those who source this
SFT_SETTINGS=(VOTES MISSIONS BENCHMARKS FILTER FORMAT VOTE_FLAGS TAG_FLAGS VERIFY_FLAGS DISTANCE_FLAGS FILTER_FLAGS EXPORT_FLAGS)
# How the engine holds the model: the flags of exp/serve.py of these names (docs/serve.md; default: what fits, and the preset's).
# Beside them EXPERT_PARALLEL (1 or 0) and ENGINE_FLAGS, more flags for the engine.
SERVE_SETTINGS=(TENSOR_PARALLEL PIPELINE_PARALLEL DATA_PARALLEL NODES BACKEND QUANTIZATION KV_CACHE_DTYPE MAX_MODEL_LEN REPLICAS)

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || fail "bash $BASH_VERSION is too old: 4.4 or newer is needed"

# A line for the screen and for the job's log.
say() { printf '%s\n' "$1" | tee -a "${MAGPIE_LOG:-/dev/null}" >&2; }

# Runs a stage program.
run() { "$VENV_PYTHON" "$PROJECT/exp/$1.py" "${@:2}"; }

# The words of a text, a line each, as a shell splits them, quotes and all; nothing in it is run.
words() { xargs -rn1 printf '%s\n' <<<"$1"; }

# Those of the named settings that are set, as they go before a command: NAME=value NAME=value
settings() {
  local name
  for name in "$@"; do
    [[ -n ${!name:-} ]] && printf '%s=%q ' "$name" "${!name}"
  done
  :
}

# The array serve_flags: what the environment says of how the engine holds the model.
# shellcheck disable=SC2034 # for those who source this
read_serve_flags() {
  local setting more
  serve_flags=()
  for setting in "${SERVE_SETTINGS[@]}"; do
    [[ -n ${!setting:-} ]] && serve_flags+=("--${setting,,}" "${!setting}")
  done
  case ${EXPERT_PARALLEL:-} in
    '') ;;
    0) serve_flags+=(--no-expert_parallel) ;;
    *) serve_flags+=(--expert_parallel) ;;
  esac
  more=${ENGINE_FLAGS:-}
  [[ -n $more ]] && serve_flags+=("--engine_flags=$more")
  :
}

# served COMMAND…: the array of this name gets the command as it finds a server: at MAGPIE_BASE_URL, or one of MODEL around it.
# shellcheck disable=SC2034 # for those who source this
served() {
  served=("$@")
  [[ -z ${MAGPIE_BASE_URL:-} ]] || return 0
  read_serve_flags
  served=("$VENV_PYTHON" "$PROJECT/exp/serve.py" "$MODEL" --log_dir "$JOB_DIR/logs" --seed "$SEED" "${serve_flags[@]}" -- "$@")
}
