#!/usr/bin/env bash
# Sourced: the array serve_flags, which tells exp/serve.py how the engine holds the model, from the environment, all optional:
#   TENSOR_PARALLEL, PIPELINE_PARALLEL, DATA_PARALLEL, NODES, BACKEND, QUANTIZATION, KV_CACHE_DTYPE, MAX_MODEL_LEN   as the
#                    flags of these names (docs/serve.md); default: what fits, and the preset's
#   EXPERT_PARALLEL  1 or 0
#   ENGINE_FLAGS     more flags for the engine
serve_flags=()
for setting in TENSOR_PARALLEL PIPELINE_PARALLEL DATA_PARALLEL NODES BACKEND QUANTIZATION KV_CACHE_DTYPE MAX_MODEL_LEN; do
  [[ -n ${!setting:-} ]] && serve_flags+=("--${setting,,}" "${!setting}")
done
case ${EXPERT_PARALLEL:-} in
  '') ;;
  0) serve_flags+=(--no-expert_parallel) ;;
  *) serve_flags+=(--expert_parallel) ;;
esac
[[ -n ${ENGINE_FLAGS:-} ]] && serve_flags+=("--engine_flags=$ENGINE_FLAGS")
:
