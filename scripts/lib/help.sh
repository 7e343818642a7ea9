#!/usr/bin/env bash
# --help of a script: its header, the comment at its top. Sourced with the script's arguments.
for argument in "$@"; do
  if [[ $argument == --help || $argument == -h ]]; then
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
    exit
  fi
done
