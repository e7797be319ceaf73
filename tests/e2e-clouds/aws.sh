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
  IMAGE=${IMAGE:-$("$KPROV" image build 2>/dev/null | tail -n 1)}
  [ -n "$IMAGE" ] || exit 1
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
NAME=e2eaws OTHER=node-0000000000c10000
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
bodies_image "$OTHER" "$IMAGE"
moto_image "$OTHER" >/dev/null
cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  provider: aws
  image: $IMAGE
  controlPlane: {replicas: 1}
  nodePools:
  - {name: worker, replicas: 1}
  componentArgs:
    kube-controller-manager: {node-monitor-period: 500ms, node-monitor-grace-period: 12s} # kubelets renew leases every 10 s
    cloud-controller-manager: {node-monitor-period: 1s, route-reconciliation-period: 2s}
YAML
. tests/e2e-clouds/lib.sh
instance() { moto_call ec2 DescribeInstances Filter.1.Name=tag:kprov-name "Filter.1.Value.1=$NAME-$1" Filter.2.Name=instance-state-name Filter.2.Value.1=running Filter.2.Value.2=stopped | moto_text instanceId; }
cloud_off() { moto_call ec2 StopInstances "InstanceId.1=$(instance "$1")" >/dev/null; }
cloud_on() { moto_call ec2 StartInstances "InstanceId.1=$(instance "$1")" >/dev/null; }
cloud_remove() { moto_call ec2 TerminateInstances "InstanceId.1=$(instance "$1")" >/dev/null; }
cloud_balancers() { moto_call elasticloadbalancing DescribeLoadBalancers | grep -o '<LoadBalancerArn>' | wc -l; }
cloud_left() { # the API has nothing more of the cluster
  local kind uid
  uid=$(cat "$DIR/uid")
  for kind in DescribeVpcs:vpcId DescribeSubnets:subnetId DescribeSecurityGroups:groupId DescribeRouteTables:routeTableId DescribeNetworkInterfaces:networkInterfaceId \
    DescribeInternetGateways:internetGatewayId DescribeAddresses:allocationId DescribeVolumes:volumeId; do
    moto_call ec2 "${kind%:*}" Filter.1.Name=tag:kprov-cluster "Filter.1.Value.1=$uid" | grep -o "<${kind#*:}>[^<]*" | sort -u
  done
  moto_call ec2 DescribeInstances Filter.1.Name=instance-state-name Filter.1.Value.1=running Filter.1.Value.2=stopped | grep -o '<instanceId>[^<]*'
  moto_call elasticloadbalancing DescribeLoadBalancers | grep -o '<LoadBalancerArn>[^<]*'
  moto_call elasticloadbalancing DescribeTargetGroups | grep -o '<TargetGroupArn>[^<]*'
}
life 'aws:///eu-west-1[abc]/i-[0-9a-f]*' t3.medium eu-west-1 'eu-west-1a' ec2
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
