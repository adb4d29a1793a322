#!/bin/bash
# measure.sh [RUNS] - how long the bank takes to come up, and a change of a label to be in
# force on every node. Prints p50 and the most of each. Leaves no lab behind.
#
# Needs `signet` in the search path and root.
set -euo pipefail

runs=${1:-10}
bank=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
lab=measure-$$
trap 'signet lab down "$lab" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT

# A lab of a name of its own: another bank may run.
cp -r "$bank/." "$folder"
sed -i "/^kind: Lab/,/^spec:/s/^  name: .*/  name: $lab/" "$folder/lab.yaml"

# The middle and the most of numbers, one a line.
figures() {
  sort -n | awk -v what="$1" -v unit="$2" '
    { all[NR] = $1 }
    END { printf "%s, %d runs: p50 %s %s, most %s %s\n", what, NR, all[int((NR + 1) / 2)], unit, all[NR], unit }'
}

now() { date +%s%N; }

for _ in $(seq "$runs"); do
  signet lab down "$lab" >/dev/null 2>&1 || true
  start=$(now)
  signet lab up "$folder" >/dev/null 2>&1
  awk -v ns=$(($(now) - start)) 'BEGIN { printf "%.1f\n", ns / 1e9 }'
done | figures "lab up" s

# Each run takes a pod's label away and gives it back.
for _ in $(seq "$runs"); do
  for value in retired ledger; do
    signet lab label --lab "$lab" ledger/ledger-1 "app=$value" |
      sed -n 's/.* after \([0-9.]*\) ms.*/\1/p'
  done
done | figures "label to every node" ms
