#!/bin/bash
# demo.sh [DIR] - the story of the bank: a flat network, default deny, the
# policies, and a pod that was taken over. Leaves the lab up.
#
# Every line after a `$` is the command that runs. Needs `signet` in the search
# path and root.
set -euo pipefail

bank=${1:-examples/bank}
lab=$(sed -n '/^kind: Lab/,/^spec:/s/^  name: //p' "$bank/lab.yaml")

# The commands as one would type them where only one lab runs.
signet() {
  case $1:$2 in
    lab:up | lab:down) command signet "$@" ;;
    lab:*) command signet lab "$2" --lab "$lab" "${@:3}" ;;
    *) command signet "$@" --server "unix:/run/signet/$lab/relay.sock" ;;
  esac
}

# On a terminal, commands are told from what they print.
prompt='$ %s\n'
if [ -t 1 ]; then prompt='\033[32m$\033[0m \033[1m%s\033[0m\n'; fi

part() { printf '\n\033[1m%s\033[0m\n' "$*"; }
tell() { printf '%s\n' "$*"; }
run() {
  # shellcheck disable=SC2059
  printf "$prompt" "$*"
  eval "$*" 2>&1 </dev/null || true
}

command signet lab down "$lab" 2>/dev/null || true

address() { command signet lab status "$lab" | awk -v pod="$1" '$1 == pod { sub(",", "", $3); print $3 }'; }

part "1. A flat network: what Kubernetes starts with"
run "signet lab up --without-policies $bank 2>/dev/null | head -2"
ledger=$(address banking/ledger-db-1)
payment=$(address payment/payment-1)
tell "Every route that the bank needs, and 126 that nobody should have:"
run "signet lab probe $bank/probes.jsonl -o summary"
tell "A pod of the public web pages opens the ledger's database:"
run "signet lab exec web/web -- psql -h ledger-db.banking -U bank -d postgres -Atc \"select 'the books are open'\""

part "2. Default deny: hygiene, and the business stops"
run "signet lab apply $bank/policy-default-deny.yaml"
run "signet lab probe $bank/probes.jsonl --only allowed -o summary"
tell "(What is left is each node reaching its own pods, as in any cluster.)"

part "3. The policies: exactly the declared routes"
run "signet lab apply $bank | tail -1"
run "signet lab probe $bank/probes.jsonl -o summary"
tell "The business works:"
run "signet lab exec ledger/ledger -- psql -h ledger-db.banking -U bank -d postgres -Atc \"select 'the ledger reads its books'\""
run "signet lab exec payment/payment -- psql -h 10.123.123.10 -U bank -d postgres -Atc \"select 'the virtual machine answers'\""
tell "What waits for a part of Signet that does not exist yet is denied, and said:"
run "signet lab probe $bank/needs-probes.jsonl -o summary"

part "4. A pod is taken over: web/web-1 looks around"
for try in "$ledger 5432" "$payment 8080" "10.123.123.10 5432" "172.20.0.2 443" "185.220.101.42 443"; do
  run "signet lab exec web/web-1 -- nc -zw1 $try && echo reached || echo nothing"
done
tell "And one of cluster mumbai, with the name and the labels of the ledger:"
run "signet lab exec mumbai/ledger/ledger -- nc -zw1 $ledger 5432 && echo reached || echo nothing"
tell "All dropped, and all seen, with program and reason:"
run "signet observe --from-pod web/web-1 --verdict DROPPED --last 10 -o brief | cut -c1-120 | sort -uk7,7 | sort"
run "signet observe --from-ip 10.246.0.0/16 --verdict DROPPED --last 1 -o brief | cut -c1-120"

part "5. What the documents show"
run "signet lab exec banking/pay-svc -- nc -zw1 $ledger 5432"
run "signet lab exec banking/web-fe -- nc -zw1 198.51.100.7 80"
run "signet lab exec banking/fraud-svc -- nc -zw1 $ledger 5432"
run "signet lab exec dev/dev-pod -- nc -zw1 $ledger 5432"
run "signet observe --namespace banking --verdict DROPPED --last 8 -o brief | sed 's/  .*//' | sort -uk5,7 | sort"
tell "(\`unsupported\` becomes \`no L7 match\` when requests are read.)"

part "The lab is still up. Go on:"
cat <<END
  signet lab status                                   # nodes, pods, policies, health
  signet observe --follow                             # and in another terminal:
  signet lab exec dev/dev-pod -- nc -zvw1 172.20.0.2 443
  signet lab restart payment/payment --node jakarta-2 # who it is, and may, stays
  signet lab label dev/dev-pod env=prod               # who it is changes
  signet lab traffic $bank/probes.jsonl --rate 50     # a steady load
  signet lab down                                     # nothing of it is left
END
