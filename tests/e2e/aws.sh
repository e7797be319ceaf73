#!/bin/bash
# kprov against AWS's API as moto's server has it, every call signed and checked: what is said to wrong keys, a denied policy, throttling and a
# machine type that is not sold; then a cluster's life cycle through the API. Machines do not boot there: creation is left when all is made.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
. tests/support/moto/moto.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
command -v moto_server >/dev/null || { echo 'SKIP: no moto_server (pip install "moto[server]", or Debian trixie: python3-moto)'; exit 77; }
DIR=$(mktemp -d /tmp/e2e-aws-XXXXXX)
export KPROV_STATE_DIR=$DIR/state HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig
THROTTLE_PID=
throttle_stop() { [ -z "$THROTTLE_PID" ] || { kill "$THROTTLE_PID"; wait "$THROTTLE_PID"; } 2>/dev/null; THROTTLE_PID=; }
cleanup() {
  throttle_stop
  moto_stop
  rm -rf "$DIR"
}
trap cleanup EXIT
moto_start || { not_ok 'moto starts' "$(tail -n 3 "$DIR/moto.log")"; exit 1; }
export AWS_ENDPOINT_URL=$MOTO_URL KPROV_CLOUD_TIMEOUT=240s # on a busy machine moto takes its time over 900 machine types
NAME=e2eaws
# Machines do not boot, so any node image of this version will do; the newest is not about to be removed.
VERSION=$("$KPROV" version | sed -n 's/.*(Kubernetes \(.*\))/\1/p')
newest_image() {
  local id
  "$KPROV" image list | awk -v v="$VERSION" '$2 == v { print $1 }' >"$DIR/images"
  # shellcheck disable=SC2012 # names are ids
  for id in $(ls -t "${KPROV_IMAGE_DIR:-/var/lib/kprov/images}" 2>/dev/null); do grep -qx "$id" "$DIR/images" && { echo "$id"; return; }; done
}
[ "$(id -u)" = 0 ] || { echo 'SKIP: a node image is made by root'; exit 77; }
IMAGE=$(newest_image)
[ -n "$IMAGE" ] || { "$KPROV" image build || exit 1; IMAGE=$(newest_image); }

create() { timeout 280 "$KPROV" create cluster $NAME --provider aws --image "$IMAGE" "$@" >"$DIR/create.log" 2>&1; }
refused() { # WHAT PATTERN: the last creation failed, saying so, and made nothing
  local status=$?
  [ $status = 1 ] && grep -Eq "$2" "$DIR/create.log"
  result $? "$1" "status $status: $(tail -n 2 "$DIR/create.log")"
}
count() { moto_call ec2 "$1" "${@:3}" | grep -o "<$2>" | wc -l; } # of elements in an answer

# ---- what is said when it does not go
AWS_SECRET_ACCESS_KEY=wrong create --dry-run
refused 'a wrong secret is told, with where the keys are from' 'SignatureDoesNotMatch.*AWS_ACCESS_KEY_ID of the environment'
AWS_ACCESS_KEY_ID='' AWS_SECRET_ACCESS_KEY='' create --dry-run
refused 'without keys every place that was looked at is named' 'no AWS keys: looked at AWS_ACCESS_KEY_ID.*profile "default" in .*instance metadata'
cat >"$DIR/reader.json" <<'JSON'
{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:Describe*","elasticloadbalancing:Describe*"],"Resource":"*"}]}
JSON
read -r id secret <<<"$(moto_user reader "$DIR/reader.json")"
AWS_ACCESS_KEY_ID=$id AWS_SECRET_ACCESS_KEY=$secret create --dry-run
refused 'a policy that denies is told, with who may not do what' 'user/reader may not CreateInternetGateway in eu-west-1.*AccessDenied'
create --dry-run --machine t9.enormous
refused 'a machine type that is not sold is told' 'no machine type "t9.enormous" in eu-west-1'

port=$(moto_free_port)
tests/support/moto/throttle "$port" "$MOTO_URL" 1000000 &
THROTTLE_PID=$!
eventually 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
AWS_MAX_ATTEMPTS=2 AWS_ENDPOINT_URL=http://127.0.0.1:$port create --dry-run
refused 'throttling that does not end is told, after all attempts' '(Throttling|RequestLimitExceeded): .*\(2 attempts\)'
throttle_stop
is 1 "$(count DescribeVpcs vpcId)" 'what was refused made nothing: the VPC that the account came with is the only one'

# ---- a life cycle
port=$(moto_free_port)
tests/support/moto/throttle "$port" "$MOTO_URL" 3 &
THROTTLE_PID=$!
eventually 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
AWS_ENDPOINT_URL=http://127.0.0.1:$port create --dry-run
result $? 'throttling that ends is lived through' "$(tail -n 2 "$DIR/create.log")"
throttle_stop
moto_image "$IMAGE" >/dev/null
# From here on as a user that has the policy of the documentation and no other.
sed -n '/^```json$/,/^```$/{//!p}' docs/aws.md >"$DIR/policy.json"
read -r operator_id operator_secret <<<"$(moto_user operator "$DIR/policy.json")"
kprov() { AWS_ACCESS_KEY_ID=$operator_id AWS_SECRET_ACCESS_KEY=$operator_secret timeout 280 "$KPROV" "$@"; }
create() { kprov create cluster $NAME --provider aws --image "$IMAGE" "$@" >"$DIR/create.log" 2>&1; }
create --control-planes 3 --workers 2 --wait 1s
refused 'a cluster is made, up to an API that nobody serves' 'look up kp-[0-9a-f]+-1\.eu-west-1\.elb\.amazonaws\.com:6443'
UID_=$("$KPROV" get clusters -o json | sed -n 's/.*"uid": *"\([^"]*\)".*/\1/p')
MINE=(Filter.1.Name=tag:kprov-cluster "Filter.1.Value.1=$UID_")
is 5 "$(count DescribeInstances instanceId "${MINE[@]}")" 'five instances are there, with the tag'
is 3 "$(moto_call ec2 DescribeInstances "${MINE[@]}" | grep -o '<availabilityZone>[^<]*' | sort -u | wc -l)" 'over three zones'
is 3 "$(moto_call ec2 DescribeInstances "${MINE[@]}" Filter.2.Name=tag:kprov-role Filter.2.Value.1=control-plane |
  grep -o '<availabilityZone>[^<]*' | sort -u | wc -l)" 'the control planes too'
is 5 "$(moto_call ec2 DescribeNetworkInterfaces "${MINE[@]}" | grep -o '<sourceDestCheck>false' | wc -l)" 'no machine is checked for source and destination'
target=$(moto_call elasticloadbalancing DescribeTargetGroups | moto_text TargetGroupArn)
is 3 "$(moto_call elasticloadbalancing DescribeTargetHealth "TargetGroupArn=$target" | grep -o '<Port>6443<' | wc -l)" 'the API balancer has three targets'
instance=$(moto_call ec2 DescribeInstances "${MINE[@]}" Filter.2.Name=tag:kprov-name "Filter.2.Value.1=$NAME-cp-1" | moto_text instanceId)
moto_call ec2 DescribeInstanceAttribute "InstanceId=$instance" Attribute=userData | moto_text value | base64 -d >"$DIR/user-data"
gzip -dc "$DIR/user-data" | grep -q "\"hostname\": *\"$NAME-cp-1\""
result $? "a control plane's user data is its config, compressed ($(stat -c %s "$DIR/user-data") of 16384 bytes)" "$(head -c 100 "$DIR/user-data" | od -c | head -n 3)"
node=$(kprov get nodes --cluster $NAME 2>"$DIR/get.log" | grep -c "$NAME-")
is 5 "$node" 'kprov get nodes lists them'

# Damage is mended by the same command.
moto_call elasticloadbalancing DeleteListener "ListenerArn=$(moto_call elasticloadbalancing DescribeListeners \
  "LoadBalancerArn=$(moto_call elasticloadbalancing DescribeLoadBalancers | moto_text LoadBalancerArn)" | moto_text ListenerArn)" >/dev/null
create --control-planes 3 --workers 2 --wait 1s
is 1 "$(moto_call elasticloadbalancing DescribeListeners "LoadBalancerArn=$(moto_call elasticloadbalancing DescribeLoadBalancers | moto_text LoadBalancerArn)" |
  grep -o '<ListenerArn>' | wc -l)" 'a listener that somebody deleted is there again after the same command'
is 5 "$(count DescribeInstances instanceId "${MINE[@]}")" 'and still five instances'

kprov delete cluster $NAME --yes >"$DIR/delete.log" 2>&1
result $? 'the cluster is deleted' "$(tail -n 3 "$DIR/delete.log")"
for kind in DescribeVpcs:vpcId DescribeSubnets:subnetId DescribeSecurityGroups:groupId DescribeRouteTables:routeTableId DescribeNetworkInterfaces:networkInterfaceId \
  DescribeInternetGateways:internetGatewayId DescribeAddresses:allocationId DescribeVolumes:volumeId; do
  is 0 "$(count "${kind%:*}" "${kind#*:}" "${MINE[@]}")" "nothing of it is left: ${kind%:*}"
done
is 0 "$(count DescribeInstances instanceId "${MINE[@]}" Filter.2.Name=instance-state-name Filter.2.Value.1=running Filter.2.Value.2=stopped)" 'no instances either'
is 0 "$(moto_call elasticloadbalancing DescribeLoadBalancers | grep -o '<LoadBalancerArn>' | wc -l)" 'nor load balancers'
is 0 "$(moto_call elasticloadbalancing DescribeTargetGroups | grep -o '<TargetGroupArn>' | wc -l)" 'nor target groups'

# ---- in a network that is somebody else's
vpc=$(moto_call ec2 CreateVpc CidrBlock=192.168.0.0/16 | moto_text vpcId)
moto_call ec2 CreateTags "ResourceId.1=$vpc" Tag.1.Key=Name Tag.1.Value=theirs >/dev/null
subnet=$(moto_call ec2 CreateSubnet "VpcId=$vpc" CidrBlock=192.168.7.0/24 AvailabilityZone=eu-west-1b | moto_text subnetId)
cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: e2eshared}
spec: {provider: aws, image: $IMAGE, aws: {network: theirs}}
YAML
kprov create cluster -f "$DIR/cluster.yaml" --wait 1s >"$DIR/create.log" 2>&1
refused 'a cluster is made in a VPC that is there' 'look up kp-'
is 1 "$(moto_call ec2 DescribeInstances "Filter.1.Name=tag:kprov-name" Filter.1.Value.1=e2eshared-cp-1 | grep -o "<subnetId>$subnet<" | sort -u | wc -l)" 'its machine is in the subnet of that'
kprov delete cluster e2eshared --yes >"$DIR/delete.log" 2>&1
result $? 'it is deleted' "$(tail -n 3 "$DIR/delete.log")"
is "1 1" "$(count DescribeVpcs vpcId "VpcId.1=$vpc") $(count DescribeSubnets cidrBlock "SubnetId.1=$subnet")" 'the VPC and its subnet are still there'
is 0 "$(moto_call ec2 DescribeTags "Filter.1.Name=resource-id" "Filter.1.Value.1=$vpc" "Filter.1.Value.2=$subnet" | grep -c 'kubernetes.io/cluster')" 'without a tag of the cluster'
is 0 "$(count DescribeSecurityGroups groupId Filter.1.Name=tag-key Filter.1.Value.1=kprov-cluster)" 'and nothing else of it is left'
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
