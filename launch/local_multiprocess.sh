#!/usr/bin/env bash
# Starts one run as several processes on this host, one CPU device each:
#
#   launch/local_multiprocess.sh [-n PROCESSES] [-t SECONDS] --config=...
#
#   -n  number of processes (default: 2)
#   -t  seconds after which all processes are killed (default: never)
#
# If a process fails, the others are killed a few seconds later. A signal to this
# script makes them save and end; a second one kills them. PYTHON is the
# interpreter (default: python), PORT the port of process 0 (default: a free
# one).
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
# A process with several CPU devices hangs when several steps are in flight.
export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=1

pids=()
end() {
  trap - EXIT
  # The other processes have time to print their errors.
  for ((tenths = 0; tenths < grace; tenths++)); do
    kill -0 "${pids[@]}" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "${pids[@]}" 2>/dev/null || true
  kill "$watchdog" 2>/dev/null || true
}

# Background processes would get an empty standard input.
exec 3<&0
for ((id = 0; id < number; id++)); do
  "$PYTHON" -m tt_compress.main --coordinator="127.0.0.1:$PORT" \
    --num_processes="$number" --process_id="$id" "$@" <&3 &
  pids+=($!)
done
# The watchdog must not keep the output open after the processes have ended.
timeout "$limit" sleep infinity >/dev/null 2>&1 &
watchdog=$!
trap end EXIT
asked=0
stop() {
  if ((asked)); then exit "$((128 + $1))"; fi
  asked=$1
  interrupted=1
  kill -TERM "${pids[@]}" 2>/dev/null || true
}
trap 'stop 15' TERM
trap 'stop 2' INT

last=0
interrupted=0
for ((left = number; left > 0; left--)); do
  status=0
  wait -n || status=$?
  if ((interrupted && status > 128)); then
    # The signal has ended the wait, but no process.
    interrupted=0
    ((left += 1))
  elif ((asked)); then
    last=$status
  elif ((status)); then
    if kill -0 "$watchdog" 2>/dev/null; then
      echo "$0: a process failed ($status); killing the others" >&2
      grace=30
    else
      echo "$0: time limit of $limit seconds; killing all processes" >&2
    fi
    exit "$status"
  fi
done
exit "$last"
