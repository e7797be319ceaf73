# Machines that exist already, for provider "external": namespaces over this machine's own Debian, each with a network, processes and an sshd of its own.
# For scripts to read, with tests/e2e/checks.sh; needs $DIR, a scratch folder on a disk.
#   stock_start NET COUNT    machines 1 to COUNT at NET.11, NET.12 ... on a bridge with NET.1; $DIR/id logs in to them
#   stock_on M COMMAND       runs it there
#   stock_key M              its host key, as spec.external.machines has it
#   stock_stop               ends them, and leaves nothing
# shellcheck shell=bash
STOCK_PIDS=() STOCK_NET='' STOCK_COUNT=0
stock_start() {
  local m
  STOCK_NET=$1 STOCK_COUNT=$2
  ssh-keygen -q -t ed25519 -N '' -f "$DIR/id"
  ip link add kpxbr type bridge && ip address add "$STOCK_NET.1/24" dev kpxbr && ip link set kpxbr up
  for m in $(seq "$STOCK_COUNT"); do
    mkdir -p "$DIR/m$m/rw" "$DIR/m$m/root" "$DIR/m$m/disk"
    mount -t tmpfs tmpfs "$DIR/m$m/rw" && mkdir "$DIR/m$m/rw/upper" "$DIR/m$m/rw/work"
    ip netns add "kpx$m"
    ip link add "kpxv$m" type veth peer name eth0 netns "kpx$m"
    ip link set "kpxv$m" master kpxbr up
    ip -n "kpx$m" link set lo up
    ip -n "kpx$m" address add "$STOCK_NET.1$m/24" dev eth0
    ip -n "kpx$m" link set eth0 up
    ip -n "kpx$m" route add default via "$STOCK_NET.1"
    ip netns exec "kpx$m" unshare --mount --pid --uts --ipc --fork --kill-child tests/support/stock-machine "$m" "$DIR/m$m" >"$DIR/m$m/log" 2>&1 &
    STOCK_PIDS+=($!)
  done
  for m in $(seq "$STOCK_COUNT"); do
    eventually 10 stock_on "$m" true || { cat "$DIR/m$m/log"; echo "not ok - test machine $m does not start"; return 1; }
  done
}
stock_on() { timeout 20 ssh -F none -i "$DIR/id" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "root@$STOCK_NET.1$1" "$2"; }
stock_key() { cut -d' ' -f1,2 "$DIR/m$1/host_key.pub"; }
stock_stop() {
  local pid m
  for pid in "${STOCK_PIDS[@]}"; do kill -KILL "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; done
  for m in $(seq "$STOCK_COUNT"); do
    ip netns delete "kpx$m" 2>/dev/null
    umount "$DIR/m$m/rw" 2>/dev/null
  done
  ip link delete kpxbr 2>/dev/null
  STOCK_PIDS=()
}
