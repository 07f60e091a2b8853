#!/usr/bin/env bash
# Several processes on this host, one CPU device each, as one run:
#
#   launch/local_multiprocess.sh [-n PROCESSES] [-t SECONDS] --config=...
#
#   -n  how many processes (default: 2)
#   -t  kills all of them after so many seconds (default: never)
#
# When one fails, the others are killed a few seconds later. PYTHON is the interpreter (default:
# python), PORT where process 0 listens (default: one that is free).
set -euo pipefail

number=2
limit=infinity
grace=0
while [[ "${1:-}" == -[nt] ]]; do
  [[ "$1" == -n ]] && number="$2" || limit="$2"
  shift 2
done

PYTHON="${PYTHON:-python}"
PORT="${PORT:-$("$PYTHON" -c 'import socket
with socket.create_server(("127.0.0.1", 0)) as server:
  print(server.getsockname()[1])')}"
# More CPU devices in a process hang as soon as several steps are under way.
export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=1

pids=()
end() {
  trap - EXIT
  # Time for what the others have to say.
  for ((tenths = 0; tenths < grace; tenths++)); do
    kill -0 "${pids[@]}" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "${pids[@]}" 2>/dev/null || true
  kill "$watchdog" 2>/dev/null || true
}

# Standard input is that of process 0; by itself it would be empty in all.
exec 3<&0
for ((id = 0; id < number; id++)); do
  "$PYTHON" -m tt_compress.main --coordinator="127.0.0.1:$PORT" \
    --num_processes="$number" --process_id="$id" "$@" <&3 &
  pids+=($!)
done
# Ends with an error; holds no output open once the others have ended.
timeout "$limit" sleep infinity >/dev/null 2>&1 &
watchdog=$!
trap end EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

for ((left = number; left > 0; left--)); do
  status=0
  wait -n || status=$?
  if ((status)); then
    if kill -0 "$watchdog" 2>/dev/null; then
      echo "$0: a process has failed ($status); the others are killed" >&2
      grace=30
    else
      echo "$0: more than $limit seconds; all processes are killed" >&2
    fi
    exit "$status"
  fi
done
