#!/bin/bash
# A node image's disk brought to AWS (kprov image upload), on moto's server with every signature and policy checked: the blocks that are not zeroes and
# no others, once; runs that were cut short; rights that are missing; pruning.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
IMAGE=node-0123456789abcdef
DIR=$(mktemp -d /tmp/e2e-aws-image-XXXXXX)
UPLOAD_PID=''
cleanup() {
  [ -z "$UPLOAD_PID" ] || kill "$UPLOAD_PID" 2>/dev/null
  [ $FAILED = 0 ] || tail -n 5 "$DIR/out" "$DIR/moto.log"
  moto_stop
  rm -rf "$DIR"
}
. tests/support/moto/moto.sh
trap cleanup EXIT
trap 'exit 143' TERM INT
moto_start
case $? in 0) ;; 77) echo 'SKIP: moto_server is not installed'; exit 77 ;; *) exit 1 ;; esac
export AWS_ENDPOINT_URL=$MOTO_URL HOME=$DIR KPROV_STATE_DIR=$DIR/state KPROV_IMAGE_DIR=$DIR/images
unset KPROV_CLOUD_TIMEOUT

# As much of a node image as is looked at; of its disk blocks 0 to 5, 30 and 31 are not empty, and the last one is half a block.
mkdir -p "$DIR/images/$IMAGE/disk" "$DIR/images/$IMAGE/rootfs/usr/lib/kprov"
"$KPROV" version | grep -oE 'v1\.[0-9]+\.[0-9]+' | head -n 1 >"$DIR/images/$IMAGE/rootfs/usr/lib/kprov/version"
DISK=$DIR/images/$IMAGE/disk/disk.raw
head -c 3000000 /dev/urandom >"$DISK"
truncate -s $((15 * 1048576)) "$DISK"
head -c 786432 /dev/urandom >>"$DISK"

upload() { timeout 60 "$KPROV" image upload $IMAGE --provider aws >"$DIR/out" 2>&1; }
puts() { grep -c '"PUT /snapshots/.*" 201' "$DIR/moto.log"; }
images() { moto_call ec2 DescribeImages Owner.1=self Filter.1.Name=tag:kprov-image Filter.1.Value.1=$IMAGE | grep -o '<imageId>[^<]*' | cut -d'>' -f2; }
snapshots() { moto_call ec2 DescribeSnapshots Owner.1=self Filter.1.Name=tag:kprov-image Filter.1.Value.1=$IMAGE | grep -o '<snapshotId>[^<]*' | cut -d'>' -f2; }
get() { # path of the direct API; moto makes a body of the path when no digest says that there is none
  printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" |
    curl -sS -m 30 -K - -H 'X-Amz-Content-SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' --aws-sigv4 "aws:amz:$AWS_REGION:ebs" "$MOTO_URL$1"
}

# ---- rights
echo '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:*","ebs:StartSnapshot"],"Resource":"*"}]}' >"$DIR/less.json"
read -r less_id less_secret <<<"$(moto_user less "$DIR/less.json")"
AWS_ACCESS_KEY_ID=$less_id AWS_SECRET_ACCESS_KEY=$less_secret upload
[ $? = 1 ] && grep -q 'PutSnapshotBlock: AccessDenied' "$DIR/out" && ! grep -qF "$less_secret" "$DIR/out"
result $? 'a right that is missing is named' "$(cat "$DIR/out")"
is '' "$(images)" 'there is no AMI then'

# ---- as a user that has the policy of the documentation and no other
sed -n '/^```json$/,/^```$/{//!p}' docs/aws.md >"$DIR/policy.json"
admin_id=$AWS_ACCESS_KEY_ID admin_secret=$AWS_SECRET_ACCESS_KEY
read -r user_id user_secret <<<"$(moto_user operator "$DIR/policy.json")"
user() { AWS_ACCESS_KEY_ID=$user_id AWS_SECRET_ACCESS_KEY=$user_secret "$@"; }
before=$(puts)
user upload
result $? "the documentation's policy is enough" "$(cat "$DIR/out")"
is 8 $(($(puts) - before)) 'eight blocks went over: those that are not all zeroes'
is 1 "$(images | wc -l)" 'one AMI has the tag'
is 1 "$(snapshots | wc -l)" 'and one snapshot: what the first run left was removed'
snapshot=$(snapshots)
is '[0,1,2,3,4,5,30,31]' "$(get "/snapshots/$snapshot/blocks" | python3 -c 'import json,sys; print(json.dumps(sorted(int(b["BlockIndex"]) for b in json.load(sys.stdin)["Blocks"]), separators=(",",":")))')" \
  'they are in their places'
get "/snapshots/$snapshot/blocks/31" >"$DIR/block"
cmp -s "$DIR/block" <(tail -c 262144 "$DISK"; head -c 262144 /dev/zero)
result $? 'the last one is filled up with zeroes'
moto_call ec2 DescribeSnapshots "SnapshotId.1=$snapshot" | grep -q kprov-stage
is 1 $? 'a whole snapshot is not marked as new any more'
before=$(puts)
user upload
is "0 0 1" "$? $(($(puts) - before)) $(images | wc -l)" 'the same again makes nothing'

# ---- what interrupted runs leave
moto_call ec2 DeregisterImage "ImageId=$(images)" >/dev/null
user upload
is "0 0 1 $snapshot" "$? $(($(puts) - before)) $(images | wc -l) $(snapshots)" 'an AMI that is lost is registered again from the snapshot that is there'
moto_call ec2 DeregisterImage "ImageId=$(images)" >/dev/null
moto_call ec2 DeleteSnapshot "SnapshotId=$snapshot" >/dev/null
truncate -s $((64 * 1048576)) "$DISK"
head -c $((32 * 1048576)) /dev/urandom | dd of="$DISK" bs=1M seek=16 conv=notrunc status=none
before=$(puts)
AWS_ACCESS_KEY_ID=$user_id AWS_SECRET_ACCESS_KEY=$user_secret "$KPROV" image upload $IMAGE --provider aws >"$DIR/out" 2>&1 &
UPLOAD_PID=$!
eventually 20 bash -c '[ "$(grep -c "\"PUT /snapshots/.*\" 201" "$0")" -gt "$1" ]' "$DIR/moto.log" "$before"
kill -9 $UPLOAD_PID
wait $UPLOAD_PID 2>/dev/null
UPLOAD_PID=''
is '1 0' "$(snapshots | wc -l) $(images | wc -l)" 'a run that is killed while it uploads leaves a snapshot and no AMI'
user upload
is '0 1 1' "$? $(snapshots | wc -l) $(images | wc -l)" 'the next one makes the AMI, and there is one snapshot'
is "" "$(snapshots | grep -F "$snapshot")" 'of its own'

# ---- pruning
ami=$(images)
AWS_ACCESS_KEY_ID=$admin_id AWS_SECRET_ACCESS_KEY=$admin_secret
instance=$(moto_call ec2 RunInstances "ImageId=$ami" MinCount=1 MaxCount=1 InstanceType=t3.medium | moto_text instanceId)
mv "$DIR/images/$IMAGE" "$DIR/kept"
user timeout 60 "$KPROV" image prune --provider aws >"$DIR/out" 2>&1
is "0 1 1" "$? $(snapshots | wc -l) $(images | wc -l)" 'an image that a machine has stays'
moto_call ec2 TerminateInstances "InstanceId.1=$instance" >/dev/null
user timeout 60 "$KPROV" image prune --provider aws >"$DIR/out" 2>&1
is "0 0 0" "$? $(snapshots | wc -l) $(images | wc -l)" 'one that none has goes, with its snapshot'
grep -q "removed $ami of aws" "$DIR/out"
result $? 'what went is told' "$(cat "$DIR/out")"

echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
