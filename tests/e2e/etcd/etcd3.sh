#!/usr/bin/env bash
# Three members over mutual TLS, driven by npm's unchanged etcd3 client: a test for each of its documented features (etcd3.js).
# ETCD=file runs it against another server, say a stock one; ETCD_TEST=part picks tests by name.
set -u
cd "$(dirname "$0")/../../.." || exit 1
. tests/e2e/etcd/lib.sh
NODE_PATH=$(tests/tools/fetch-etcd3) || { echo 'etcd/etcd3: 0 passed, 1 failed'; echo 'no etcd3 client' >&2; exit 1; }
export NODE_PATH
etcd_begin
new_cluster "${MEMBERS:-3}"
# What the script stops and starts members with: arguments separated by zeroes.
for i in $(seq "$MEMBERS"); do
  member_command "$i" --initial-cluster "$INITIAL" --initial-cluster-state existing
  printf '%s\0' "${COMMAND[@]}" >"$DIR/m$i.command"
done
NODE_NO_WARNINGS=1 timeout 170 node tests/e2e/etcd/etcd3.js "$EP" "$DIR"
