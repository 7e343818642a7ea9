#!/usr/bin/env bash
# One of the servers of scripts/slurm/replicas.sbatch: srun runs this once a task, with that script's environment. exp/serve.py starts
# a dead engine again; this starts exp/serve.py again if that was killed. What it refuses itself (exit code 2) stays refused.
#   REPLICA_HOST    the address to listen on (default: all; the URL then has the node's name)
#   REPLICA_PAUSE   seconds before it is started again (default 10: the dead one's GPU memory comes free)
set -euo pipefail

source "$PROJECT/scripts/lib/common.sh"
unset REPLICAS NODES # this is one of them
read_serve_flags
url=$URLS/$SLURM_PROCID server='' ending=''
trap 'rm -f "$url"' EXIT
trap 'ending=1; [[ -z $server ]] || kill -TERM "$server" 2>/dev/null || :' TERM INT

for ((start = 1; ; start++)); do
  "$VENV_PYTHON" "$PROJECT/exp/serve.py" "$MODEL" --seed "$SEED" --replica "$SLURM_PROCID" --log_dir "$JOB_DIR/logs" \
    --host "${REPLICA_HOST:-0.0.0.0}" --url_file "$url" "${serve_flags[@]}" &
  server=$! code=0
  wait "$server" || code=$?
  while kill -0 "$server" 2>/dev/null; do # a signal came in between
    wait "$server" && code=0 || code=$?
  done
  rm -f "$url"
  [[ -z $ending && $code != 2 && $code != 130 && $start -le 3 ]] || exit "$code"
  server=''
  say "Server $SLURM_PROCID was killed or has failed (exit code $code); starting it again ($start of 3)"
  sleep "${REPLICA_PAUSE:-10}"
  [[ -z $ending ]] || exit 143
done
