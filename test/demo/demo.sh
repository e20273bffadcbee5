#!/usr/bin/env bash
# Three real nodes on 127.0.0.1-3 form a mesh, run a document and show what came
# of it. Stops every process it started and cleans up; KEEP=1 leaves it running.
set -euo pipefail
cd "$(dirname "$0")/../.."
meshd=$PWD/bin/meshd
meshctl=$PWD/bin/meshctl
dir=$(mktemp -d "${TMPDIR:-/tmp}/fleetmesh-demo.XXXXXX")
pids=()

cleanup() {
  status=$?
  trap - EXIT INT TERM
  if [ "$status" -ne 0 ]; then
    echo "The demo failed (exit $status). The end of each node's log:" >&2
    for log in "$dir"/*.log; do
      [ -f "$log" ] && { echo "-- $(basename "$log")" >&2; tail -n 15 "$log" >&2; }
    done
  fi
  if [ "$status" -eq 0 ] && [ "${KEEP:-}" = 1 ]; then
    cat <<TXT

The mesh is still running. To use it:
  export MESHCTL_CONFIG=$dir/node1/admin.yaml
  $meshctl mesh status
  $meshctl run --targets tag:role=web -- 'uname -a'
  eval "\$($meshctl env)"; aws ssm describe-instance-information
To end it:
  kill ${pids[*]}; rm -rf $dir
TXT
    exit 0
  fi
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

start() { # node
  "$meshd" run --data-dir "$dir/$1" >"$dir/$1.log" 2>&1 &
  pids+=($!)
}

# await SECONDS WHAT COMMAND...: until the command succeeds.
await() {
  local seconds=$1 what=$2
  shift 2
  local end=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "gave up waiting for $what after $seconds s" >&2
      "$@" >&2 || true
      exit 1
    fi
    sleep 0.2
  done
}
online() { [ "$("$meshctl" mesh status -o json | tr -d ' \n' | sed -n 's/.*"Online":\([0-9]*\).*/\1/p')" = "$1" ]; }
voting() { [ "$("$meshctl" mesh status -o json | tr -d ' \n' | sed -n 's/.*"FailureTolerance":\([0-9]*\).*/\1/p')" = "$1" ]; }

say "1. The first node makes a mesh: no server, no cloud, no internet."
"$meshd" init --data-dir "$dir/node1" --mesh-name demo --bind 127.0.0.1 --node-name node1 --tag role=web --tag zone=a | sed 's/^/   /'
start node1
export MESHCTL_CONFIG=$dir/node1/admin.yaml
await 30 "the first node" "$meshctl" mesh status

say "2. Two more enrol with one token."
token=$("$meshctl" activation create --limit 2 -o json | tr -d ' \n' | sed -n 's/.*"JoinToken":"\([^"]*\)".*/\1/p')
for n in 2 3; do
  "$meshd" join --data-dir "$dir/node$n" --token "$token" --bind "127.0.0.$n" --node-name "node$n" --tag role=web --tag "zone=$([ $n = 2 ] && echo b || echo c)" 2>/dev/null | sed 's/^/   /' | head -n 1
  start "node$n"
done
await 45 "three nodes online" online 3
await 45 "three voters" voting 1
"$meshctl" mesh status | sed 's/^/   /'

say "3. One command for every node with the tag role=web."
"$meshctl" run --targets tag:role=web --comment "demo" -- 'echo "hello from $(hostname), node $AWS_SSM_INSTANCE_ID"' 2>&1 | sed 's/^/   /'

say "4. This machine's packages against the default patch baseline. A scan changes nothing."
"$meshctl" patch scan --targets tag:zone=a 2>&1 | sed 's/^/   /' || echo "   This machine cannot be scanned; the line above says why."
"$meshctl" patch status 2>&1 | sed 's/^/   /'

say "5. The nodes, and what the mesh remembers."
"$meshctl" node list | sed 's/^/   /'
"$meshctl" command list | sed 's/^/   /'
