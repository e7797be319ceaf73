#!/bin/bash
# terraform-examples/openstack-ha with the real terraform, on a real OpenStack as tests/e2e-openstack/run has it; it costs many minutes, so TERRAFORM_OPENSTACK=1
# asks for it. TERRAFORM_CONTROL_PLANES=3 is the whole of the example: the test-bed emulates its machines.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
. tests/support/terraform.sh
. tests/e2e-openstack/testbed.sh
[ "${TERRAFORM_OPENSTACK:-}" = 1 ] || { echo 'SKIP: it costs minutes: TERRAFORM_OPENSTACK=1 asks for it'; exit 77; }
command -v terraform >/dev/null || { echo 'SKIP: no terraform on this machine'; exit 77; }
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-${KPROV_TEST_CACHE:-/var/cache/kprov-tests}/kubectl}
NETWORK=${OPENSTACK_NETWORK-flat}
DIR=$(mktemp -d /tmp/e2e-terraform-openstack-XXXXXX)
openstack_up >"$DIR/why" || { echo "SKIP: $(cat "$DIR/why")"; rm -rf "$DIR"; openstack_down; exit 77; }
FLAVOR=${OPENSTACK_FLAVOR:?names a flavor of the project of OS_*}
export KPROV_STATE_DIR=$DIR/state HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig TF_SECONDS=2400 TF_VAR_control_planes=${TERRAFORM_CONTROL_PLANES:-1} TF_VAR_wait=30m
export KPROV_OPENSTACK_KERNEL_ARGS=${KPROV_OPENSTACK_KERNEL_ARGS-mitigations=off preempt=none audit=0 nokaslr norandmaps highres=off GOGC=400}
mkdir -p "$HOME"
held() { timeout 300 tests/e2e-openstack/project list | grep -v '^image .* kprov-'; }
cleanup() {
  timeout 900 "$KPROV" delete cluster tfos --yes >/dev/null 2>&1
  openstack_down
  rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 143' TERM INT
held >"$DIR/before"
terraform_setup
tf_prepare openstack-ha "$DIR/ha"
tf_life "$DIR/ha" tfos 1 2 -var "network=$NETWORK" -var api_endpoint=virtualAddress -var "control_plane_type=$FLAVOR" -var "worker_type=$FLAVOR"
held >"$DIR/now"
diff "$DIR/before" "$DIR/now" >"$DIR/diff"
result $? 'the project has what it had' "$(cat "$DIR/diff")"
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
