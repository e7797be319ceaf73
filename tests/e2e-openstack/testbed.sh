# The real OpenStack that tests run against, for scripts to read: OS_* of a project that is there, or the test-bed, built and started when need be.
# shellcheck shell=bash
OPENSTACK_TESTBED=${OPENSTACK_TESTBED:-$PWD/../shared/testbeds/openstack/openstack-testbed}
OPENSTACK_DIR=${OPENSTACK_DIR:-/var/cache/kprov-openstack/tb} # its root tree, 2.3 GB; what it writes is beside it
OPENSTACK_OURS='' # 1: started here, and ended here

openstack_up() { # ends with 1 and a word why when there is none
  [ -z "${OS_AUTH_URL:-}" ] || return 0
  [ -x "$OPENSTACK_TESTBED" ] || { echo "no OS_AUTH_URL, and no test-bed at $OPENSTACK_TESTBED"; return 1; }
  [ "$(id -u)" = 0 ] || { echo 'the test-bed needs root'; return 1; }
  mkdir -p "${OPENSTACK_DIR%/*}"
  [ -d "$OPENSTACK_DIR" ] || timeout 1800 "$OPENSTACK_TESTBED" build "$OPENSTACK_DIR" >"$OPENSTACK_DIR-build.log" 2>&1 </dev/null ||
    { echo "the test-bed is not built: see $OPENSTACK_DIR-build.log"; return 1; }
  if ! "$OPENSTACK_TESTBED" status "$OPENSTACK_DIR" >/dev/null 2>&1; then
    # The daemons keep no descriptor of ours: a lock would be held for as long as they run.
    timeout 900 "$OPENSTACK_TESTBED" start "$OPENSTACK_DIR" 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- >"$OPENSTACK_DIR-start.log" 2>&1 </dev/null ||
      { echo "the test-bed does not start: see $OPENSTACK_DIR-start.log"; return 1; }
    OPENSTACK_OURS=1
  fi
  eval "$("$OPENSTACK_TESTBED" rc "$OPENSTACK_DIR" demo)"
  # Its own flavors have two vCPUs or half the memory; emulated ones wait for each other.
  OPENSTACK_FLAVOR=${OPENSTACK_FLAVOR:-kprov-node}
  timeout 120 "$OPENSTACK_TESTBED" exec "$OPENSTACK_DIR" openstack flavor show "$OPENSTACK_FLAVOR" >/dev/null 2>&1 </dev/null ||
    timeout 120 "$OPENSTACK_TESTBED" exec "$OPENSTACK_DIR" openstack flavor create --vcpus 1 --ram 1024 --disk 2 --ephemeral 4 "$OPENSTACK_FLAVOR" >/dev/null 2>&1 </dev/null ||
    { echo "flavor $OPENSTACK_FLAVOR is not made"; return 1; }
}
openstack_down() {
  [ -z "$OPENSTACK_OURS" ] || "$OPENSTACK_TESTBED" stop "$OPENSTACK_DIR" >/dev/null 2>&1 </dev/null
  OPENSTACK_OURS=''
}
