#!/bin/bash
# A node image's disk brought to Hetzner's cloud (kprov image upload), on the API in memory and a dropbear that stands for a server's rescue system: what
# is on the disk afterwards, the snapshot, that nothing else is left; a run that is killed; a disk that does not keep what was written; pruning.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
IMAGE=node-0123456789abcdef
[ "$(id -u)" = 0 ] || { echo 'SKIP: a mount namespace needs root'; exit 77; }
for tool in dropbear python3 unshare; do command -v $tool >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }; done
DIR=$(mktemp -d /tmp/e2e-hetzner-image-XXXXXX)
RUNNING='' RESCUE=''
cleanup() {
  for pid in $RUNNING $RESCUE; do kill "$pid" 2>/dev/null; done
  [ $FAILED = 0 ] || tail -n 8 "$DIR"/out "$DIR"/hetzner.log "$DIR"/rescue.log
  hetzner_stop
  rm -rf "$DIR"
}
. tests/support/hetzner.sh
trap cleanup EXIT
trap 'exit 143' TERM INT
hetzner_start || exit 1
export HOME=$DIR KPROV_STATE_DIR=$DIR/state KPROV_IMAGE_DIR=$DIR/images
unset KPROV_CLOUD_TIMEOUT
mkdir -p "$DIR/images/$IMAGE/disk" "$DIR/images/$IMAGE/rootfs/usr/lib/kprov" "$DIR/rescue/dev"
"$KPROV" version | grep -oE 'v1\.[0-9]+\.[0-9]+' | head -n 1 >"$DIR/images/$IMAGE/rootfs/usr/lib/kprov/version"
DISK=$DIR/images/$IMAGE/disk/disk.raw
head -c 3000000 /dev/urandom >"$DISK"
truncate -s $((24 * 1048576)) "$DISK"
: >"$DIR/rescue.log"

state() { # an expression of python over the fake's state s
  curl -s -m 10 "$hetzner_url/_fake/state" | python3 -c "import json,sys; s = json.load(sys.stdin); print($1)"
}
left() { state "len(s['servers']), len(s['ssh_keys']), len([i for i in s['images'] if i['labels'].get('kprov-image') == '$IMAGE'])"; }
# Starts the rescue system of the server that was turned on for it, as Hetzner does.
rescuer() {
  local found=''
  until [ -n "$found" ]; do
    sleep 0.2
    found=$(state "' '.join([x['public_net']['ipv4']['ip'] + ' ' + x['#rescue_keys'][0] for x in s['servers'] if x['status'] == 'running' and x['rescue_enabled']][:1])" 2>/dev/null)
  done
  exec tests/support/rescue "$DIR/rescue" "${found%% *}" "${found#* }" >>"$DIR/rescue.log" 2>&1
}
start_rescuer() { rescuer & RESCUE=$!; }
stop_rescuer() { kill "$RESCUE" 2>/dev/null; wait "$RESCUE" 2>/dev/null; RESCUE=''; }
new_disk() { rm -f "$DIR/rescue/dev/sda"; head -c $((48 * 1048576)) /dev/urandom >"$DIR/rescue/dev/sda"; }
upload() { timeout 90 "$KPROV" image upload $IMAGE --provider hetzner >"$DIR/out" 2>&1; }

new_disk
start_rescuer
upload
result $? 'a node image is brought there' "$(cat "$DIR/out")"
cmp -s -n $((24 * 1048576)) "$DISK" "$DIR/rescue/dev/sda"
result $? "the server's disk begins with the node image's"
cmp -s <(tail -c +$((24 * 1048576 + 1)) "$DIR/rescue/dev/sda" | head -c $((16 * 1048576))) <(head -c $((16 * 1048576)) /dev/zero)
result $? 'behind it there is nothing that a machine could take for its data'
stop_rescuer
is '0 0 1' "$(left | tr -d '(),')" 'a snapshot has the label; server and key are gone'
is 'available snapshot' "$(state "' '.join([i['status'] + ' ' + i['type'] for i in s['images'] if i['labels']])")" 'it can be used'
order=$(curl -s "$hetzner_url/_fake/log" | grep -oE 'POST /servers/[0-9]+/actions/[a-z_]+' | sed 's/.*\///' | tr '\n' ' ')
is 'enable_rescue poweron poweroff create_image ' "$order" 'the snapshot is of a server that is turned off, and that never ran but in its rescue system'
before=$(curl -s "$hetzner_url/_fake/log" | grep -o 'POST /[a-z]' | wc -l)
upload
is "0 $before" "$? $(curl -s "$hetzner_url/_fake/log" | grep -o 'POST /[a-z]' | wc -l)" 'the same again makes nothing'

# ---- a cluster's server holds it; then it is pruned
mv "$DIR/images/$IMAGE" "$DIR/kept"
timeout 60 "$KPROV" image prune --provider hetzner >"$DIR/out" 2>&1
is '0 0 0 0' "$? $(left | tr -d '(),')" 'a snapshot that no server has is pruned'
mv "$DIR/kept" "$DIR/images/$IMAGE"

# ---- a run that is killed
"$KPROV" image upload $IMAGE --provider hetzner >"$DIR/out" 2>&1 &
RUNNING=$!
eventually 30 bash -c "[ \"\$(curl -s $hetzner_url/_fake/log | grep -c '/actions/poweron')\" -gt 0 ] && curl -s $hetzner_url/_fake/state | grep -q '\"rescue_enabled\": true'"
kill -9 "$RUNNING"
wait "$RUNNING" 2>/dev/null
RUNNING=''
is '1 1 0' "$(left | tr -d '(),')" 'a run that is killed leaves a server and a key'
old=$(state "s['servers'][0]['id']")
new_disk
start_old() { # the rescue system of a server other than that one
  local found=''
  until [ -n "$found" ]; do
    sleep 0.2
    found=$(state "' '.join([x['public_net']['ipv4']['ip'] + ' ' + x['#rescue_keys'][0] for x in s['servers'] if x['id'] != $old and x['status'] == 'running' and x['rescue_enabled']][:1])" 2>/dev/null)
  done
  exec tests/support/rescue "$DIR/rescue" "${found%% *}" "${found#* }" >>"$DIR/rescue.log" 2>&1
}
start_old & RESCUE=$!
upload
is '0 0 0 1' "$? $(left | tr -d '(),')" 'the next one removes both, and brings the image'
stop_rescuer

# ---- a disk in use, and one that is too small
"$KPROV" image prune --provider hetzner >/dev/null 2>&1
mkdir -p "$DIR/images/$IMAGE/disk" "$DIR/images/$IMAGE/rootfs/usr/lib/kprov"
"$KPROV" version | grep -oE 'v1\.[0-9]+\.[0-9]+' | head -n 1 >"$DIR/images/$IMAGE/rootfs/usr/lib/kprov/version"
head -c 3000000 /dev/urandom >"$DISK"
rm -f "$DIR/rescue/dev/sda"
ln -s /dev/full "$DIR/rescue/dev/sda"
start_rescuer
upload
[ $? = 1 ] && grep -q 'what was written is not what was sent\|writing the disk' "$DIR/out"
result $? 'a disk that keeps nothing is told' "$(cat "$DIR/out")"
stop_rescuer
is '0 0 0' "$(left | tr -d '(),')" 'nothing is left, and no snapshot made'

echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
