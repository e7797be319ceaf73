# Starts and ends tests/support/bodies/bodies.py, which gives a fake cloud's servers bodies. Sourced, inside tests/support/bodies/world; needs $DIR.
#   bodies_start aws|hetzner URL   says what it does in $DIR/bodies.log
#   bodies_stop                    ends it, and with it all machines; its status is 0 when nothing is left
#   bodies_image ID [FROM]         adds that node image, or FROM with another name, to a folder that KPROV_IMAGE_DIR is set to; complete as far as
#                                  kprov looks: bodies need nothing of what virtual machines boot, which takes minutes to make
# shellcheck shell=bash
bodies_image() {
  local from=${KPROV_IMAGE_DIR:-/var/lib/kprov/images}/${2:-$1}
  export KPROV_IMAGE_DIR=$DIR/images
  mkdir -p "$DIR/images/$1/vm"
  touch "$DIR/images/$1/vm/root.erofs"
  ln -sfn "$(realpath "$from/rootfs")" "$DIR/images/$1/rootfs"
  ln -sfn "$(realpath "$from/base")" "$DIR/images/$1/base"
}
bodies_start() {
  mkdir -p "$DIR/bodies"
  python3 tests/support/bodies/bodies.py --cloud "$1" --url "$2" --folder "$DIR/bodies" >"$DIR/bodies.log" 2>&1 &
  BODIES_PID=$!
  for _ in $(seq 200); do
    grep -q ' ready$' "$DIR/bodies.log" && return 0
    kill -0 "$BODIES_PID" 2>/dev/null || break
    sleep 0.1
  done
  cat "$DIR/bodies.log" >&2
  return 1
}
bodies_stop() {
  [ -n "${BODIES_PID:-}" ] || return 0
  kill -TERM "$BODIES_PID" 2>/dev/null
  wait "$BODIES_PID"
  BODIES_PID=
  grep -q ' over$' "$DIR/bodies.log"
}
# How many machines are on, and what there is of them at all: folders, links, cgroups, routes.
bodies_on() { pgrep -f '^/usr/lib/kprov/bin/kprov-init' | wc -l; }
bodies_left() {
  ls "$DIR/bodies"
  ip -o link show type veth
  find /sys/fs/cgroup -mindepth 3 -maxdepth 3 -type d -path "*/$BODIES_CGROUP/*"
  ip route show proto 98
}
