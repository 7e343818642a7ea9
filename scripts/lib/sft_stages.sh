#!/usr/bin/env bash
# From the answers of a finished main job to a data set: votes, tags, verified answers, duplicates, benchmarks, filter, export,
# report. Called by scripts/sft.sh and, with --all, by main_stages.sh, both with a server at MAGPIE_BASE_URL or none. A stage that fails
# ends the job with its exit code; run again, it goes on. With --check only the arguments are checked.
# Environment: JOB_DIR, JOB_NAME, MODEL, PROBLEMS, ANSWERS (the job's files), MAGPIE_LOG, SEED, and, all optional:
#   VOTES          answers a problem that are compared (default 4); 1: the job's own answer, which verifies nothing
#   MISSIONS       what unitag.py tags (default: difficulty quality language)
#   BENCHMARKS     what decontaminate.py compares with: files and names of configs/benchmarks.yaml, by spaces (default: none)
#   FILTER         rules: a name in configs/filters or a file (default sft)
#   FORMAT         the data set's format (default messages)
#   VOTE_FLAGS (default: --temperature 0.7 --top_p 0.95, OpenMathReasoning's), TAG_FLAGS, VERIFY_FLAGS (default:
#   --keep_unverified: the filter decides), DISTANCE_FLAGS, FILTER_FLAGS, EXPORT_FLAGS: more flags, as on a command line
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
mapfile -t for_votes < <(words "${VOTE_FLAGS:---temperature 0.7 --top_p 0.95}")
mapfile -t for_tags < <(words "${TAG_FLAGS:-}")
mapfile -t for_verifying < <(words "${VERIFY_FLAGS:---keep_unverified}")
mapfile -t for_distances < <(words "${DISTANCE_FLAGS:-}")
mapfile -t for_filter < <(words "${FILTER_FLAGS:-}")
mapfile -t for_export < <(words "${EXPORT_FLAGS:-}")
read -ra missions <<<"${MISSIONS:-difficulty quality language}"
read -ra benchmarks <<<"${BENCHMARKS:-}"
votes=${VOTES:-4} filter=${FILTER:-sft} format=${FORMAT:-messages}

file=$ANSWERS choose=()
if [[ $votes != 1 ]]; then
  file=${PROBLEMS%.jsonl}_${votes}res.jsonl choose=(--choose "${for_verifying[@]}")
  run gen_res --model_path "$MODEL" --input_file "$PROBLEMS" --num_responses "$votes" --output_file "$file" --seed "${SEED:-0}" \
    "${for_votes[@]}" "$@"
fi
if [[ ${1:-} == --check ]]; then # the last stages on what there is already; nothing is written
  run filter --input_file "$ANSWERS" --output_file "$JOB_DIR/check.jsonl" --config "$filter" "${for_filter[@]}" --check
  run export --input_file "$ANSWERS" --output_folder "$JOB_DIR/check" --format "$format" "${for_export[@]}" --check
  exit
fi
report() { # main_stages.sh makes it at its end
  [[ ${ALL:-0} == 1 ]] || run report "$JOB_DIR" || say "No report: see above. The data set is whole without it"
}
next() { # the stage's name, the ending of its output, its flags: reads the last stage's file
  run "$1" --input_file "$file" --output_file "${file%.jsonl}_$2.jsonl" "${@:3}"
  file=${file%.jsonl}_$2.jsonl
}

next unitag tagged --tag_mission "${missions[@]}" --model_path "$MODEL" "${for_tags[@]}"
next verify verified "${choose[@]}"
next gen_dis distance "${for_distances[@]}"
if [[ ${#benchmarks[@]} -gt 0 ]]; then
  next decontaminate decontaminated --benchmarks "${benchmarks[@]}"
else
  say "Not decontaminated: no benchmarks are named (BENCHMARKS, or --benchmarks of scripts/sft.sh). The data card says so too"
fi
name=$(basename "${filter%.yaml}")
next filter "filtered_$name" --config "$filter" "${for_filter[@]}"
if [[ ! -s $file ]]; then
  report
  say "No record passes the filter $filter, so there is no data set: the summary above and ${file%.jsonl}_dropped.jsonl say why"
  exit
fi
run export --input_file "$file" --format "$format" --output_folder "$JOB_DIR/${JOB_NAME}_$name" "${for_export[@]}"
report
say "The data set is done: $JOB_DIR/${JOB_NAME}_$name"
