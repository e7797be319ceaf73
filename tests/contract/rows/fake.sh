# shellcheck shell=bash
# The tests' own cloud: with everything that a cloud may have, and with machines and networks alone.
FAKE_CLOUD_PENDING=2 row fake --state "$DIR/fake" --expect exec,console,balancers,routes,local-images,change-later,public,node-facts fake
ROW_UNLISTED=1 FAKE_CLOUD_PENDING=2 FAKE_CLOUD_HOST_NAMES=1 row fake-names --state "$DIR/names" fake
row fake-plain --state "$DIR/plain" --expect exec,console,local-images,change-later fake-plain
