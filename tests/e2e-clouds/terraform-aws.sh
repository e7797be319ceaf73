#!/bin/bash
# terraform-examples/aws-ha with the real terraform, on AWS's API as moto's server has it, with bodies: three control planes over three zones. Apply,
# empty plan, one worker more, destroy, and nothing is left.
set -u
cd "$(dirname "$0")/../.." || exit 1
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-${KPROV_TEST_CACHE:-/var/cache/kprov-tests}/kubectl}
if [ -z "${BODIES_WORLD:-}" ]; then
  command -v terraform >/dev/null || { echo 'SKIP: no terraform on this machine'; exit 77; }
  command -v moto_server >/dev/null || { echo 'SKIP: no moto_server (pip install "moto[server]", or Debian trixie: python3-moto)'; exit 77; }
  [ -x "$KUBECTL" ] || { echo "no $KUBECTL: tests/tools/fetch-clients" >&2; exit 1; }
  IMAGE=$("$KPROV" image build 2>/dev/null | tail -n 1) # terraform's cluster files name none: it is the one of these programs
  [ -n "$IMAGE" ] || exit 1
  export IMAGE
  exec tests/support/bodies/world "$0" "$@"
fi
. tests/e2e/checks.sh
. tests/support/terraform.sh
. tests/support/moto/moto.sh
. tests/support/bodies/bodies.sh
DIR=$(mktemp -d /var/tmp/e2e-clouds-terraform-XXXXXX)
export KPROV_STATE_DIR=$DIR/state HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig MOTO_HOST=$BODIES_API
mkdir -p "$HOME"
bodies_image "$IMAGE"
cleanup() {
  bodies_stop
  moto_stop
  if [ -n "${KEEP:-}" ]; then echo "kept: $DIR"; else rm -rf "$DIR"; fi
}
trap cleanup EXIT
trap 'exit 143' TERM
moto_start || { not_ok 'moto starts' "$(tail -n 3 "$DIR/moto.log")"; exit 1; }
export AWS_ENDPOINT_URL=$MOTO_URL KPROV_CLOUD_TIMEOUT=240s TF_SECONDS=400
moto_image "$IMAGE" >/dev/null
bodies_start aws "$MOTO_URL" || exit 1
terraform_setup
tf_prepare aws-ha "$DIR/ha"
tf_life "$DIR/ha" tfaws 1 2 -var "region=$AWS_REGION" -var 'zones=["eu-west-1a","eu-west-1b","eu-west-1c"]' -var wait=3m
eventually 15 sh -c "[ -z \"\$(ls '$DIR/bodies')\" ]"
is '' "$(bodies_left)" 'no machine is left'
is '' "$(moto_call ec2 DescribeVpcs Filter.1.Name=tag-key Filter.1.Value.1=kprov-cluster | moto_text vpcId)$(moto_call elasticloadbalancing DescribeLoadBalancers | moto_text LoadBalancerArn)" \
  'nor a network or load balancer'
bodies_stop
result $? 'nor anything else of the bodies' "$(tail -n 3 "$DIR/bodies.log")"
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
