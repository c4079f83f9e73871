#!/bin/sh
# Runs a command so many times beside two processes that keep cores busy: COUNT COMMAND...
# It stops at the first run that fails, and exits as that has.
set -u
count=$1
shift
stress-ng --quiet --cpu 2 &
stress=$!
trap 'kill "$stress" 2>/dev/null; wait "$stress"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
run=1
while [ "$run" -le "$count" ]; do
  echo "--- run $run of $count, beside stress-ng --cpu 2"
  "$@" || exit $?
  run=$((run + 1))
done
