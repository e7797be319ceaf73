#!/bin/bash
# terraform-examples/existing-machines with the real terraform, on three machines with sshd made for it (tests/support/stock.sh): apply, empty plan, one worker
# more, destroy, and the machines are themselves again.
set -u
cd "$(dirname "$0")/../.." || exit 1
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-${KPROV_TEST_CACHE:-/var/cache/kprov-tests}/kubectl}
if [ -z "${BODIES_WORLD:-}" ]; then
  command -v terraform >/dev/null || { echo 'SKIP: no terraform on this machine'; exit 77; }
  for tool in "$KUBECTL" /usr/sbin/sshd ssh-keygen; do command -v "$tool" >/dev/null || { echo "no $tool: make test-deps, tests/tools/fetch-clients" >&2; exit 1; }; done
  IMAGE=$("$KPROV" image build 2>/dev/null | tail -n 1) # terraform's cluster files name none: it is the one of these programs
  [ -n "$IMAGE" ] || exit 1
  export IMAGE
  exec tests/support/bodies/world "$0" "$@"
fi
. tests/e2e/checks.sh
. tests/support/terraform.sh
. tests/support/stock.sh
DIR=$(mktemp -d /var/tmp/e2e-clouds-existing-XXXXXX)
export KPROV_STATE_DIR=$DIR/state HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig TF_SECONDS=300
mkdir -p "$HOME"
unset SSH_AUTH_SOCK
NET=10.98.78
cleanup() {
  stock_stop
  rm -rf --one-file-system "$DIR"
}
trap cleanup EXIT
trap 'exit 143' TERM
stock_start $NET 3 || exit 1
machine() { printf '{address="%s",role="%s",key_file="%s",host_key="%s"}' "$NET.1$1" "$2" "$DIR/id" "$(stock_key "$1")"; }
files() { for m in 1 2 3; do find "$DIR/m$m/rw/upper" "$DIR/m$m/disk" | grep -v '/var/log/\(wtmp\|lastlog\|btmp\)$'; done | sort; }
files >"$DIR/before"
terraform_setup
tf_prepare existing-machines "$DIR/metal"
tf_life "$DIR/metal" tfmetal 1 2 -var "api_address=$NET.100" -var "machines=[$(machine 1 control-plane),$(machine 2 worker),$(machine 3 worker)]"
files >"$DIR/now"
diff "$DIR/before" "$DIR/now" >"$DIR/diff"
result $? 'the machines have the files that they had' "$(head -n 5 "$DIR/diff")"
is '' "$(for m in 1 2 3; do stock_on $m 'ip -o link show cni0 2>/dev/null; nft list tables; ip -4 -o address | grep -w 10.98.78.100; ip route show proto 97'; done)" \
  'and no link, rule, address or route of a node'
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
