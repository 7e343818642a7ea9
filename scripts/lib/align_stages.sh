#!/usr/bin/env bash
# The stages of scripts/lib/align_job.sh, with its environment: `answers` (several a problem, verified) with a server, then `pairs`
# (rewards if REWARD_MODEL names a model, pairs, export, report) without one. With --check the arguments are checked and nothing is
# made. A stage that fails ends the job with its exit code; run again, it goes on.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
mapfile -t for_answers < <(words "$RES_FLAGS")
mapfile -t for_verifying < <(words "$VERIFY_FLAGS")
mapfile -t for_rewards < <(words "$REWARD_FLAGS")
mapfile -t for_pairs < <(words "$PAIR_FLAGS")
mapfile -t for_export < <(words "$EXPORT_FLAGS")
read -ra formats <<<"$EXPORTS"
read -ra reward_models <<<"$REWARD_MODEL"
[[ -n $TEMPERATURE ]] && for_answers+=(--temperature "$TEMPERATURE")

answers() {
  run gen_res --model_path "$MODEL" --input_file "$PROBLEMS" --num_responses "$RESPONSES" --output_file "$ANSWERS" --seed "$SEED" \
    "${for_answers[@]}" "$@"
}
pairs() { run gen_po_pairs --input_file "$1" --strategy "$STRATEGY" --pairs_per_problem "$PAIRS" --seed "$SEED" "${for_pairs[@]}" "${@:2}"; }

file=${ANSWERS%.jsonl}_verified.jsonl
case $1 in
  --check)
    answers --check
    pairs "$file" --check
    exit
    ;;
  answers)
    answers
    run verify --input_file "$ANSWERS" --output_file "$file" "${for_verifying[@]}"
    exit
    ;;
esac
if [[ -n $REWARD_MODEL ]]; then
  run gen_po_rewards --input_file "$file" --output_file "${file%.jsonl}_rewards.jsonl" --reward_model "${reward_models[@]}" \
    "${for_rewards[@]}"
  file=${file%.jsonl}_rewards.jsonl
fi
pairs "$file"
file=${file%.jsonl}_pairs.jsonl
report() { run report "$(dirname "$ANSWERS")" --output_file "$REPORT" || say 'No report: see above. The pairs are whole without it'; }
if [[ ! -s $file ]]; then
  report
  say "No pair: the summary above and ${file%.jsonl}_dropped.jsonl say why. More answers a problem give more"
  exit
fi
for format in "${formats[@]}"; do
  run export --input_file "$file" --format "$format" "${for_export[@]}"
done
report
say "The pairs are done: $file"
