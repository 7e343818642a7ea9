#!/usr/bin/env bash
# The stages of the main job: problems, answers, SFT file. Called by main_job.sh, with its environment. With --check the
# arguments are checked and nothing is made. A stage that fails ends the job with its exit code.
set -euo pipefail

stem=$JOB_DIR/$JOB_NAME
read -ra for_problems <<<"$INS_FLAGS"
read -ra for_answers <<<"$RES_FLAGS"

"$PYTHON" "$PROJECT/exp/gen_ins.py" --model_path "$MODEL" --total_prompts "$TOTAL" --output_file "${stem}_ins.jsonl" \
  --seed "$SEED" --preflight "$PREFLIGHT" "${for_problems[@]}" "$@"
[[ ${1:-} == --check && ! -f ${stem}_ins.jsonl ]] && exit
"$PYTHON" "$PROJECT/exp/gen_res.py" --model_path "$MODEL" --input_file "${stem}_ins.jsonl" --seed "$SEED" \
  "${for_answers[@]}" "$@"
[[ ${1:-} == --check ]] && exit
"$PYTHON" "$PROJECT/exp/export.py" --format sharegpt --input_file "${stem}_ins_res.jsonl"
printf 'The job is done: %s\n' "$JOB_DIR" | tee -a "$MAGPIE_LOG" >&2
