#!/usr/bin/env bash
# The stages of the main job: problems, cleaned, answers, SFT file, report. Called by main_job.sh, with its environment. With
# --check the arguments are checked and nothing is made. A stage that fails ends the job with its exit code.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
stem=$JOB_DIR/$JOB_NAME
mapfile -t for_problems < <(words "$INS_FLAGS")
mapfile -t for_answers < <(words "$RES_FLAGS")
[[ -n $INS_TOP_P ]] && for_problems+=(--top_p "$INS_TOP_P")
[[ -n $INS_TEMPERATURE ]] && for_problems+=(--temperature "$INS_TEMPERATURE")
[[ -n $RES_TOP_P ]] && for_answers+=(--top_p "$RES_TOP_P")
[[ -n $RES_TEMPERATURE ]] && for_answers+=(--temperature "$RES_TEMPERATURE")

run gen_ins --model_path "$MODEL" --total_prompts "$TOTAL" --output_file "${stem}_ins.jsonl" \
  --seed "$SEED" --preflight "$PREFLIGHT" "${for_problems[@]}" "$@"
[[ ${1:-} == --check ]] || run clean_ins --input_file "${stem}_ins.jsonl"
run gen_res --model_path "$MODEL" --input_file "${stem}_ins_clean.jsonl" --seed "$SEED" \
  "${for_answers[@]}" "$@"
[[ ${1:-} == --check ]] && exit
run export --format sharegpt --input_file "${stem}_ins_clean_res.jsonl"
if [[ ${ALL:-0} == 1 ]]; then
  PROBLEMS=${stem}_ins_clean.jsonl ANSWERS=${stem}_ins_clean_res.jsonl bash "$PROJECT/scripts/lib/sft_stages.sh"
fi
run report "$JOB_DIR" || say 'No report: see above. The job is whole without it'
say "The job is done: $JOB_DIR"
