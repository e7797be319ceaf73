#!/bin/bash
# kprov on AWS's API as moto's server has it, with bodies (tests/support/bodies): its instances are machines that boot the node image, its balancers carry
# connections. A cluster comes up, its cloud-controller-manager works against the API, machines stop and go; deletion leaves nothing.
set -u
cd "$(dirname "$0")/../.." || exit 1
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-${KPROV_TEST_CACHE:-/var/cache/kprov-tests}/kubectl}
if [ -z "${BODIES_WORLD:-}" ]; then
  command -v moto_server >/dev/null || { echo 'SKIP: no moto_server (pip install "moto[server]", or Debian trixie: python3-moto)'; exit 77; }
  [ -x "$KUBECTL" ] || { echo "no $KUBECTL: tests/tools/fetch-clients" >&2; exit 1; }
  IMAGE=$("$KPROV" image build 2>/dev/null | tail -n 1) || exit 1
  export IMAGE
  exec tests/support/bodies/world "$0" "$@"
fi
. tests/e2e/checks.sh
. tests/support/moto/moto.sh
. tests/support/bodies/bodies.sh
DIR=$(mktemp -d /var/tmp/e2e-clouds-aws-XXXXXX)
export KPROV_STATE_DIR=$DIR/state HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig MOTO_HOST=$BODIES_API
mkdir -p "$HOME"
bodies_image "$IMAGE"
NAME=e2eaws
cleanup() {
  bodies_stop
  moto_stop
  if [ -n "${KEEP:-}" ]; then echo "kept: $DIR"; else rm -rf "$DIR"; fi
}
trap cleanup EXIT
trap 'exit 143' TERM
moto_start || { not_ok 'moto starts' "$(tail -n 3 "$DIR/moto.log")"; exit 1; }
export AWS_ENDPOINT_URL=$MOTO_URL KPROV_CLOUD_TIMEOUT=240s
moto_image "$IMAGE" >/dev/null
sed -n '/^```json$/,/^```$/{//!p}' docs/aws.md >"$DIR/policy.json"
read -r operator_id operator_secret <<<"$(moto_user operator "$DIR/policy.json")"
kprov() { AWS_ACCESS_KEY_ID=$operator_id AWS_SECRET_ACCESS_KEY=$operator_secret timeout 300 "$KPROV" "$@"; }
bodies_start aws "$MOTO_URL" || exit 1
start=$(now_ms)
kprov create cluster $NAME --provider aws --image "$IMAGE" --workers 1 --wait 150s >"$DIR/create.log" 2>&1
result $? "a cluster is made, $(($(now_ms) - start)) ms" "$(tail -n 5 "$DIR/create.log")"
k get nodes -o wide --show-labels
k get pods -A -o wide
if [ -n "${DEBUG:-}" ]; then bash -i; fi
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
