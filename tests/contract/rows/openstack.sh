# A real OpenStack: the test-bed, or the project of OS_*. It costs minutes, so it is asked for.
. tests/e2e-openstack/testbed.sh
trap openstack_down EXIT
if [ "${E2E_OPENSTACK:-}" != 1 ]; then
  skip openstack 'E2E_OPENSTACK=1 asks for it'
elif ! openstack_up >"$DIR/why"; then
  skip openstack "$(cat "$DIR/why")"
else
  # Machines boot kernel, initrd and root: an image that has them.
  image=$(find "${KPROV_IMAGE_DIR:-/var/lib/kprov/images}" -mindepth 3 -maxdepth 3 -path '*/vm/root.erofs' -printf '%T@ %h\n' 2>/dev/null | sort -n | tail -n 1 | sed 's,/vm$,,; s,.*/,,')
  ROW_LIMIT=1800 row openstack ${image:+--image "$image"} --machine-type "${OPENSTACK_FLAVOR:-node-data}" --wait 180s ${OPENSTACK_OURS:+--prune} \
    --damage 'tests/e2e-openstack/project damage "$CONTRACT_CLUSTER" "$CONTRACT_BALANCER"' \
    --expect console,balancers,routes,metadata,public,node-facts openstack
fi
