#!/bin/bash
# kprov on Hetzner Cloud's API as tests/support/hetzner.py has it, which starts no machines: what it refuses before anything is made, what it
# makes, and that deletion leaves the project as empty as before.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
. tests/support/hetzner.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
DIR=$(mktemp -d /tmp/e2e-hetzner-XXXXXX)
export KPROV_STATE_DIR=$DIR/state HOME=$DIR/home
NAME=e2ehz IMAGE=node-0123456789abcdef
export KPROV_IMAGE_DIR=$DIR/images
# As much of a node image as kprov itself looks at: the machines here never start.
mkdir -p "$HOME" "$DIR/images/$IMAGE/vm" "$DIR/images/$IMAGE/rootfs/usr/lib/kprov"
"$KPROV" version | grep -oE 'v1\.[0-9]+\.[0-9]+' | head -n 1 >"$DIR/images/$IMAGE/rootfs/usr/lib/kprov/version"
touch "$DIR/images/$IMAGE/vm/root.erofs"
cleanup() { hetzner_stop; rm -rf "$DIR"; }
trap cleanup EXIT
hetzner_start || { echo 'SKIP: no python3'; exit 77; }
api() { curl -s -m 10 -H "Authorization: Bearer $HCLOUD_TOKEN" "$HCLOUD_ENDPOINT/$1"; }
changes() { curl -s -m 10 "$hetzner_url/_fake/log" | grep -oE '"(POST|PUT|DELETE) [^"]*"' | wc -l; }
left() { # what the project holds, by kind
  local kind
  for kind in servers networks load_balancers firewalls placement_groups primary_ips; do echo "$kind $(api $kind | grep -oE '"total_entries": [0-9]+' | tr -dc 0-9)"; done
}
config() { # FILE MACHINE_TYPE
  cat >"$1" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  provider: hetzner
  image: $IMAGE
  controlPlane: {replicas: 3, machine: $2}
  nodePools:
  - {name: worker, replicas: 2}
  hetzner: {zones: [fsn1, nbg1, hel1]}
YAML
}
create() { timeout 60 "$KPROV" create cluster -f "$1" --kubeconfig "$DIR/kubeconfig" --wait 1s >"$DIR/out" 2>&1; }
refused() { # TEXT WHAT
  is 1 $? "$2 is refused"
  grep -q -- "$1" "$DIR/out"
  result $? "and it is told what to do" "$(cat "$DIR/out")"
  is 0 "$(changes)" 'and nothing was made'
}
config "$DIR/cluster.yaml" cx32
config "$DIR/huge.yaml" cx999
left >"$DIR/before"
HCLOUD_TOKEN='' create "$DIR/cluster.yaml"
refused 'HCLOUD_TOKEN' 'no token'
HCLOUD_TOKEN=nobody create "$DIR/cluster.yaml"
refused 'unauthorized' 'a wrong token'
create "$DIR/huge.yaml"
refused 'cx999' 'a machine type that is not sold'
mkdir "$DIR/images/$IMAGE/disk"
truncate -s 1M "$DIR/images/$IMAGE/disk/disk.raw" # hetzner-image.sh brings one there
curl -s -m 10 -d '{"match":"GET /ssh_keys","kind":"status","status":403,"code":"forbidden","times":1}' "$hetzner_url/_fake/fault" >"$DIR/out"
create "$DIR/cluster.yaml"
refused 'forbidden' 'a node image that cannot be brought there'
curl -s -m 10 -d "{\"labels\":{\"kprov-image\":\"$IMAGE\"}}" "$hetzner_url/_fake/image" >"$DIR/out"
timeout 60 "$KPROV" delete cluster $NAME --yes >"$DIR/out" 2>&1
result $? 'what was refused is forgotten' "$(cat "$DIR/out")"
timeout 60 "$KPROV" create cluster -f "$DIR/cluster.yaml" --dry-run >"$DIR/out" 2>&1
result $? 'create --dry-run shows what would be made' "$(cat "$DIR/out")"
cat "$DIR/out"
is 0 "$(changes)" 'and makes nothing'
create "$DIR/cluster.yaml"
cat "$DIR/out"
left >"$DIR/made"
is 'servers 5 networks 1 load_balancers 1 firewalls 1 placement_groups 1 primary_ips 5' "$(tr '\n' ' ' <"$DIR/made" | sed 's/ $//')" 'a cluster is five servers, a load balancer and what they share'
grep -q cx32 <<<"$(api servers)"
result $? 'the control planes are of the type asked for'
timeout 60 "$KPROV" delete cluster $NAME --yes >"$DIR/out" 2>&1
result $? 'it is deleted' "$(cat "$DIR/out")"
is "$(cat "$DIR/before")" "$(left)" 'and the project is as empty as before'
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
