#!/bin/bash
# terraform-examples with the real terraform and no registry: the whole life of local-quickstart, of the others init, validate and plan, and that
# kprov takes the cluster files they make.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
. tests/support/terraform.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-/var/cache/kprov-tests/kubectl}
EXAMPLES=$PWD/terraform-examples
command -v terraform >/dev/null || { echo 'SKIP: no terraform on this machine'; exit 77; }
[ "$(id -u)" = 0 ] || { echo 'SKIP: machines of this host need root'; exit 77; }
DIR=$(mktemp -d /tmp/e2e-terraform-XXXXXX)
export KPROV_STATE_DIR=$DIR/state KPROV_LOCAL_DIR=$DIR/local HOME=$DIR/home KUBECONFIG=$DIR/quick/quick.kubeconfig
terraform_setup
unset KPROV_IMAGE
cleanup() {
  "$KPROV" delete cluster quick --yes >/dev/null 2>&1
  rm -rf "$DIR"
}
trap cleanup EXIT
timeout 60 terraform fmt -check -recursive "$EXAMPLES" >"$DIR/out" 2>&1
result $? 'the examples are formatted' "$(tail_out)"

# ---- the others: what they would make, and that kprov knows every field of it
cluster_file() { # FOLDER: the cluster file of the plan there
  (cd "$1" && timeout 60 terraform show -json plan) | python3 -c '
import json, sys
for change in json.load(sys.stdin)["resource_changes"]:
    if change["name"] == "contents":
        print(change["change"]["after"]["triggers_replace"][1])'
}
plan_only() { # EXAMPLE WORDS...: of plan
  local folder=$DIR/$1 example=$1
  shift
  tf_prepare "$example" "$folder"
  tf "$folder" plan -out plan "$@"
  result $? "$example: plan" "$(tail_out)"
  grep -q 'Plan: 2 to add, 0 to change, 0 to destroy' "$DIR/out"
  result $? "$example: two resources are to be made" "$(tail_out)"
  cluster_file "$folder" >"$folder/cluster.yaml"
  timeout 20 "$KPROV" plan -f "$folder/cluster.yaml" >"$DIR/out" 2>&1
  is 2 $? "$example: kprov would make that cluster" || tail_out
}
plan_only libvirt-ha
plan_only openstack-ha -var cloud=lab -var external_network=public -var api_endpoint=virtualAddress -var 'zones=["nova"]' -var worker_type=m1.small
plan_only aws-ha -var control_plane_type=t3.medium -var 'zones=["eu-central-1a","eu-central-1b","eu-central-1c"]'
plan_only existing-machines -var api_address=10.0.0.100 -var 'machines=[{address="10.0.0.5",role="control-plane"},{address="10.0.0.6",role="worker",user="admin",port=2222,key_file="~/.ssh/id"}]'

# ---- the whole life
Q=$DIR/quick
nodes() { "$KPROV" get nodes --cluster quick 2>/dev/null | awk 'NR > 1 { print $1 }' | sort | tr '\n' ' '; }
tf_prepare local-quickstart "$Q"
export TF_VAR_name=quick
tf "$Q" apply -auto-approve -var wait=soon
[ $? = 1 ] && grep -q '"soon"' "$DIR/out"
result $? 'a creation that fails says why' "$(tail_out)"
tf "$Q" destroy -auto-approve
result $? 'what it left is destroyed' "$(tail_out)"
tf "$Q" apply -auto-approve
result $? 'apply makes the cluster' "$(tail_out)"
is 'quick-cp-1 quick-worker-1 ' "$(nodes)" 'a control plane and a worker'
tf "$Q" plan -detailed-exitcode
is 0 $? 'plan again is empty'
is 600 "$(stat -c %a "$KUBECONFIG")" 'the kubeconfig is for its owner alone'
tf "$Q" output -raw kubeconfig
is "$KUBECONFIG" "$(cat "$DIR/out")" 'and its path is an output'
tf "$Q" output -raw endpoint
endpoint=$(cat "$DIR/out")
tf "$Q" output -raw ca_certificate
cp "$DIR/out" "$DIR/ca.crt"
timeout 20 curl -sf --cacert "$DIR/ca.crt" "$endpoint/version" | grep -q gitVersion
result $? 'the API answers at the endpoint, with the CA that are outputs' "$endpoint"
tf "$Q" apply -auto-approve -var workers=2
result $? 'apply with another number of workers' "$(tail_out)"
is 'quick-cp-1 quick-worker-1 quick-worker-2 ' "$(nodes)" 'there is one more'
ready() { [ "$(k get nodes --no-headers | grep -c ' Ready')" = 3 ]; }
eventually 20 ready
result $? 'three nodes are Ready' "$(k get nodes 2>&1)"
tf "$Q" plan -detailed-exitcode -var workers=2
is 0 $? 'plan again is empty'
tf "$Q" apply -auto-approve -var workers=0
is 'quick-cp-1 ' "$(nodes)" 'and none with workers = 0'
tf "$Q" destroy -auto-approve
result $? 'destroy' "$(tail_out)"
is '' "$(find "$KPROV_STATE_DIR" "$KPROV_LOCAL_DIR" -mindepth 1 -type d -name '*-*' 2>/dev/null; ls "$Q"/*.yaml "$KUBECONFIG" 2>/dev/null)" 'nothing is left of it'
is '[]' "$("$KPROV" get clusters -o json | tr -d ' \n')" 'kprov knows no cluster'
tf "$Q" plan -destroy -detailed-exitcode
is 0 $? 'nor does terraform'
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
