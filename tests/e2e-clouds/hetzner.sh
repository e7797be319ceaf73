#!/bin/bash
# kprov on Hetzner Cloud's API as tests/support/hetzner.py has it, with bodies (tests/support/bodies): its servers are machines that boot the node image,
# each with an address of its own and no neighbours, so that pods reach each other by the network's routes. As tests/e2e-clouds/aws.sh.
set -u
cd "$(dirname "$0")/../.." || exit 1
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-${KPROV_TEST_CACHE:-/var/cache/kprov-tests}/kubectl}
if [ -z "${BODIES_WORLD:-}" ]; then
  command -v python3 >/dev/null || { echo 'SKIP: no python3'; exit 77; }
  [ -x "$KUBECTL" ] || { echo "no $KUBECTL: tests/tools/fetch-clients" >&2; exit 1; }
  IMAGE=${IMAGE:-$("$KPROV" image build 2>/dev/null | tail -n 1)}
  [ -n "$IMAGE" ] || exit 1
  export IMAGE
  exec tests/support/bodies/world "$0" "$@"
fi
. tests/e2e/checks.sh
. tests/support/hetzner.sh
. tests/support/bodies/bodies.sh
DIR=$(mktemp -d /var/tmp/e2e-clouds-hetzner-XXXXXX)
export KPROV_STATE_DIR=$DIR/state HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig HETZNER_HOST=$BODIES_API
mkdir -p "$HOME"
bodies_image "$IMAGE"
NAME=e2ehz
cleanup() {
  bodies_stop
  hetzner_stop
  if [ -n "${KEEP:-}" ]; then echo "kept: $DIR"; else rm -rf "$DIR"; fi
}
trap cleanup EXIT
trap 'exit 143' TERM
hetzner_start --image "$IMAGE" --public 198.19 || { not_ok 'the API starts' "$(tail -n 3 "$DIR/hetzner.log")"; exit 1; }
bodies_start hetzner "$hetzner_url" || exit 1
cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  provider: hetzner
  image: $IMAGE
  controlPlane: {replicas: 1}
  nodePools:
  - {name: worker, replicas: 1, machine: cx32}
  hetzner: {zones: [fsn1, nbg1]}
  componentArgs:
    kube-controller-manager: {node-monitor-period: 500ms, node-monitor-grace-period: 12s} # kubelets renew leases every 10 s
    cloud-controller-manager: {node-monitor-period: 1s, route-reconciliation-period: 2s}
YAML
. tests/e2e-clouds/lib.sh
kprov() { timeout 300 "$KPROV" "$@"; }
api() { curl -s -m 10 -H "Authorization: Bearer $HCLOUD_TOKEN" "${@:2}" "$HCLOUD_ENDPOINT/$1"; }
server() { api "servers?label_selector=kprov-name=$NAME-$1" | python3 -c 'import json, sys; print(*[s["id"] for s in json.load(sys.stdin)["servers"]])'; }
# An action there is over after some more requests, which nobody makes while the cluster's controllers are off.
asked() { for _ in 1 2 3; do api locations -o /dev/null; done; }
cloud_off() { api "servers/$(server "$1")/actions/poweroff" -X POST -o /dev/null && asked; }
cloud_on() { api "servers/$(server "$1")/actions/poweron" -X POST -o /dev/null && asked; }
cloud_remove() { api "servers/$(server "$1")" -X DELETE -o /dev/null && asked; }
total() { api "$1" | grep -oE '"total_entries": [0-9]+' | tr -dc 0-9; }
cloud_balancers() { total load_balancers; }
cloud_left() {
  local kind
  for kind in servers networks load_balancers firewalls placement_groups primary_ips; do [ "$(total $kind)" = 0 ] || echo "$kind $(total $kind)"; done
}
life 'hcloud://[0-9]*' cx32 fsn1 fsn1 hetzner
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
