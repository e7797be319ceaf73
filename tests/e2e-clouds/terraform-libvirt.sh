#!/bin/bash
# terraform-examples/libvirt-ha with the real terraform: three control planes as virtual machines; without KVM they take minutes, so TERRAFORM_LIBVIRT=1 asks
# for it. TERRAFORM_CONTROL_PLANES=1 is the small one.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
. tests/support/terraform.sh
[ "${TERRAFORM_LIBVIRT:-}" = 1 ] || { echo 'SKIP: it costs minutes: TERRAFORM_LIBVIRT=1 asks for it'; exit 77; }
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-${KPROV_TEST_CACHE:-/var/cache/kprov-tests}/kubectl}
[ "$(id -u)" = 0 ] || { echo 'SKIP: needs root'; exit 77; }
for tool in terraform libvirtd virtlogd qemu-system-x86_64 virsh; do command -v $tool >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }; done
DIR=$(mktemp -d /tmp/e2e-terraform-libvirt-XXXXXX)
export KPROV_STATE_DIR=$DIR/state HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig TF_SECONDS=1500 TF_VAR_control_planes=${TERRAFORM_CONTROL_PLANES:-3} TF_VAR_wait=20m
unset LIBVIRT_DEFAULT_URI
mkdir -p "$HOME"
chmod 755 "$DIR"
v() { timeout 60 virsh -q -c qemu:///system "$@"; }
daemon_pid() { cat "/run/$1.pid" 2>/dev/null; }
OURS=''
for daemon in libvirtd virtlogd; do kill -0 "$(daemon_pid $daemon)" 2>/dev/null || OURS="$OURS $daemon"; done
cleanup() {
  timeout 600 "$KPROV" delete cluster tflv --yes >/dev/null 2>&1
  for daemon in $OURS; do kill "$(daemon_pid "$daemon")" 2>/dev/null; done
  rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 143' TERM INT
# shellcheck disable=SC2086 # a list
for daemon in $OURS; do $daemon -d 3>&- 9>&-; done
eventually 20 v list
held() { v list --all --name; v net-list --all --name; v pool-list --all --name | grep -vx 'kprov-images *'; ls /sys/class/net; }
held >"$DIR/before"
terraform_setup
tf_prepare libvirt-ha "$DIR/ha"
tf_life "$DIR/ha" tflv 1 2
held >"$DIR/now"
diff "$DIR/before" "$DIR/now" >"$DIR/diff"
result $? 'no machine, network, pool or link is left' "$(cat "$DIR/diff")"
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
