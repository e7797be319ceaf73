#!/usr/bin/env bash
# The cluster suite once more, with a stock etcd under our kube-apiserver: the node image of `kprov create cluster` is made of our
# programs and the newer etcd of tests/tools/fetch-etcd in place of ours. Flags, certificates and probes stay as they are.
# The suites that are about the API run; E2E_SUITES="10 20 30 40" picks others by number, E2E_TEST=part tests by name.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
[ "$(id -u)" = 0 ] || { echo 'SKIP: machines of this host need root'; exit 77; }
[ -x "$KUBECTL" ] || { echo "no $KUBECTL: tests/tools/fetch-clients brings it" >&2; exit 1; }
STOCK=$(tests/tools/fetch-etcd) || { echo 'no newer stock etcd' >&2; exit 1; }
OURS=$PWD/${BUILD:-build}/bin/etcd
# kprov makes its image of the programs beside it.
programs=$PWD/${BUILD:-build}/stock-etcd
rm -rf "$programs"
mkdir -p "$programs"
cp -lL "${KPROV%/*}"/* "$programs/" && rm "$programs/etcd" && cp "$STOCK/etcd" "$programs/etcd" || exit 1
KPROV=$programs/kprov
unset E2E_KUBECONFIG
cluster_up

# etcdctl on the control plane's etcd, with the certificate of its API server.
stored() {
  local file
  for file in etcd/ca.crt apiserver-etcd-client.crt apiserver-etcd-client.key; do
    [ -s "$DIR/etcd-${file##*/}" ] || on cp-1 -- cat "/etc/kubernetes/pki/$file" >"$DIR/etcd-${file##*/}"
  done
  timeout 30 "$STOCK/etcdctl" --endpoints "https://$(address cp-1):2379" --cacert "$DIR/etcd-ca.crt" --cert "$DIR/etcd-apiserver-etcd-client.crt" \
    --key "$DIR/etcd-apiserver-etcd-client.key" "$@"
}
test_the_store_is_a_stock_etcd() {
  has ", $("$STOCK/etcdctl" version | sed -n 's/^etcdctl version: //p'), " "$(stored endpoint status)"
  has "/registry/namespaces/$NS" "$(stored get /registry/namespaces/ --prefix --keys-only)"
}
# What our API server wrote into a stock etcd, restored into ours: every key, value and revision.
test_its_snapshot_restores_into_ours() {
  local port peer there here
  port=$((20000 + RANDOM % 12000)) peer=$((20000 + RANDOM % 12000))
  stored snapshot save "$DIR/cluster.db" >/dev/null 2>&1
  "$OURS" snapshot restore "$DIR/cluster.db" --data-dir "$DIR/ours" --name a --initial-cluster "a=http://127.0.0.1:$peer" \
    --initial-advertise-peer-urls "http://127.0.0.1:$peer"
  "$OURS" --name a --data-dir "$DIR/ours" --listen-client-urls "http://127.0.0.1:$port" --advertise-client-urls "http://127.0.0.1:$port" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "a=http://127.0.0.1:$peer" &
  pid=$!
  trap 'kill -9 "$pid"' EXIT
  wait_until 15 timeout 5 "$STOCK/etcdctl" --endpoints "http://127.0.0.1:$port" endpoint health
  restored() { timeout 30 "$STOCK/etcdctl" --endpoints "http://127.0.0.1:$port" "$@"; }
  at=$("$STOCK/etcdutl" snapshot status "$DIR/cluster.db" -w json | sed 's/.*"revision":\([0-9]*\).*/\1/')
  [ "$at" -gt 100 ] || fail "revision $at"
  there=$(stored get / --prefix --rev "$at" -w fields | grep -v '^"\(ClusterID\|MemberID\|Revision\|RaftTerm\)"' | sha256sum)
  here=$(restored get / --prefix --rev "$at" -w fields | grep -v '^"\(ClusterID\|MemberID\|Revision\|RaftTerm\)"' | sha256sum)
  is "$there" "$here"
  [ "$(restored get / --prefix --keys-only | grep -c /registry/)" -gt 50 ] || fail 'few keys'
}
for number in ${E2E_SUITES:-10 30}; do . tests/e2e/suite/"$number"-*.sh; done
run_tests
