#!/usr/bin/env bash
# Bad inputs of every kind: requests (bad-inputs.js, answer by answer beside a stock etcd), flags, certificates, members that do
# not belong, damaged files, full disks. Each is refused as etcd refuses it, and leaves the store sound.
# ETCD=file runs it against another server, say a stock one; ETCD_TEST=part picks tests by name.
set -u
cd "$(dirname "$0")/../../.." || exit 1
. tests/e2e/etcd/lib.sh
. tests/e2e/etcd/bad-inputs-process.bash
NODE_PATH=$(tests/tools/fetch-etcd3) || { echo 'etcd/bad-inputs: 0 passed, 1 failed'; echo 'no etcd3 client' >&2; exit 1; }
export NODE_PATH
etcd_begin
MEMBER_BINARY=$STOCK/etcd cluster_of '21 22 23'
STOCK_EP=$EP
MEMBERS=${MEMBERS:-3}
cluster_of "$(seq "$MEMBERS")"
[ "$ETCD" != "$STOCK/etcd" ] || export ETCD_IS_STOCK=1
NODE_NO_WARNINGS=1 timeout 120 node tests/e2e/etcd/bad-inputs.js "$DIR" "$EP" "$STOCK_EP" | tee "$DIR/requests"
read -r PASSED FAILED < <(sed -n 's/^requests: \([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$DIR/requests")
[ -n "${FAILED:-}" ] || { echo 'not ok - requests: ended early'; PASSED=0 FAILED=1; }
NUMBER=$((PASSED + FAILED))
for i in 21 22 23; do member_stop "$i" 9; done
run_tests 'bad input: '
summary etcd/bad-inputs
