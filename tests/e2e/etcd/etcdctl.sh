#!/usr/bin/env bash
# Three members over mutual TLS, driven by two unchanged versions of etcdctl (Debian's and a newer one): a test for each command.
# ETCD=file runs it against another server, say a stock one; ETCD_TEST=part picks tests by name; ETCDCTLS=new takes one client.
set -u
cd "$(dirname "$0")/../../.." || exit 1
. tests/e2e/etcd/lib.sh
for part in tests/e2e/etcd/etcdctl-*.bash; do . "$part"; done

etcd_begin
MEMBERS=${MEMBERS:-3} # fewer only while something is being built
# `check perf` puts 150 keys a second for one minute: on three members of its own, beside everything else.
perf() {
  cluster_of "$(seq 21 $((20 + MEMBERS)))"
  background "$DIR/perf.out" timeout 100 "$CTL" --endpoints "$EP" --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" \
    check perf --load s --prefix perf/
  PERF_PID=$BG PERF_EP=$EP
}
case perf in *"${ETCD_TEST:-perf}"*) perf ;; esac
cluster_of "$(seq "$MEMBERS")"
for CTL in ${ETCDCTLS:-old new}; do
  case $CTL in old) CTL=$CTL_OLD ;; new) CTL=$CTL_NEW ;; esac
  CTL_VERSION=$("$CTL" version | sed -n 's/^etcdctl version: //p')
  run_tests "etcdctl $CTL_VERSION: "
done
case perf in *"${ETCD_TEST:-perf}"*) run_test check_perf "etcdctl $CTL_VERSION: check perf" ;; esac
summary "etcd/etcdctl against $("$ETCD" --version | head -n 1)"
