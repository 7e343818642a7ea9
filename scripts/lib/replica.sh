#!/usr/bin/env bash
# One of the servers of scripts/slurm/replicas.sbatch: srun runs this once a task, with that script's environment.
set -euo pipefail

source "$PROJECT/scripts/lib/common.sh"
unset REPLICAS NODES # this is one of them
read_serve_flags
exec "$VENV_PYTHON" "$PROJECT/exp/serve.py" "$MODEL" --seed "$SEED" --replica "$SLURM_PROCID" --log_dir "$JOB_DIR/logs" \
  --host "${REPLICA_HOST:-$(hostname)}" --url_file "$URLS/$SLURM_PROCID" "${serve_flags[@]}"
