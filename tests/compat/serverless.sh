#!/bin/bash
# The kind of script that a serverless platform runs for each event: it decodes the files of the
# event, passes the options as text, and moves the file that deepaas-cli names to the place from
# which the platform fetches the result.
#
# usage: serverless.sh EVENT.json RESULTS
set -euo pipefail

event=$1
results=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Writes two files in $work: the method, and the words of its options, each ended by a zero byte.
python3 - "$event" "$work" <<'PYTHON'
import base64, json, pathlib, sys
event = json.loads(pathlib.Path(sys.argv[1]).read_text())
work = pathlib.Path(sys.argv[2])
words = []
for name, value in event.get("options", {}).items():
    words += [f"--{name}", str(value)]
for number, file in enumerate(event.get("files", [])):
    path = work / f"{number}.{file['extension']}"
    path.write_bytes(base64.b64decode(file["data"]))
    words += [f"--{file['key']}", str(path)]
(work / "method").write_text(event.get("method", "predict"))
(work / "words").write_text("".join(word + "\0" for word in words))
PYTHON
mapfile -d '' -t words < "$work/words"

name=$(basename "$event" .json)
if ! deepaas-cli --deepaas_method_output="$work/output/$name" "$(cat "$work/method")" "${words[@]}" \
  > "$work/log" 2>&1; then
  tail -n 1 "$work/log" >&2
  exit 1
fi

output=$(grep "New output is" "$work/log" | awk '{print $5}' | sed 's/\x1b\[[0-9;]*m//g' || true)
mkdir -p "$results"
mv "${output:-$work/output/$name}" "$results/"
