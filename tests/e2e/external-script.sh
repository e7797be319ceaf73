#!/bin/bash
# What lib/cloud/external/node.sh does to a machine's folder when a node gets another image or another config, interruptions included.
# In a mount namespace of its own; no node is started.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
[ "$(id -u)" = 0 ] || { echo 'SKIP: a folder below /var/lib needs root'; exit 77; }
if [ -z "${EXTERNAL_SCRIPT_INSIDE:-}" ]; then
  EXTERNAL_SCRIPT_INSIDE=1 exec unshare --mount --propagation private "$0"
fi
HOME_DIR=/var/lib/kprov-node NODE=$HOME_DIR/node
mkdir -p $HOME_DIR && mount -t tmpfs tmpfs $HOME_DIR || { echo 'not ok - a folder of our own'; echo '0 passed, 1 failed'; exit 1; }
script() { sh lib/cloud/external/node.sh "$@"; }
meta() { sed -n "s/^$1=//p" $NODE/meta; }
tree() { mkdir -p "$HOME_DIR/bundles/$1"; }
for id in base-1 node-1 node-2 node-3; do tree $id; done
script claim uid demo-cp-1 control-plane '' && printf one >$NODE/user-data && script install node-1 base-1 10.0.0.5
result $? 'a node is installed'
is user-data.2 "$(script config-file)" 'another config gets the other name of two'
! script configure user-data.2 2>/dev/null && [ -z "$(meta config)" ]
result $? 'one that is not there is not named'
printf two >$NODE/user-data.2
script configure user-data.2
is 'user-data.2 node-1' "$(meta config) $(meta image)" 'one that is there is, and the image stays'
is user-data "$(script config-file)" 'and the next one gets the first name again'

lay_over() { # what a node has changed over its trees
  mkdir -p $NODE/upper/etc/kubernetes $NODE/upper/var/lib/x $NODE/upper/usr/bin $NODE/upper/root $NODE/work/work $NODE/data/etcd
  echo id >$NODE/upper/etc/machine-id && echo mine >$NODE/upper/var/lib/x/file && echo old >$NODE/upper/usr/bin/tool &&
    echo old >$NODE/upper/etc/kubernetes/file && echo key >$NODE/upper/root/key && echo db >$NODE/data/etcd/db
}
kept() { # what has to be there after a change, and what not
  [ "$(cat $NODE/upper/etc/machine-id $NODE/upper/var/lib/x/file $NODE/upper/root/key $NODE/data/etcd/db | tr '\n' ' ')" = 'id mine key db ' ] &&
    [ ! -e $NODE/upper/usr ] && [ ! -e $NODE/upper/etc/kubernetes ] && [ ! -e $NODE/work ] && [ ! -e $NODE/upper.old ]
}
lay_over
! script reimage node-9 base-1 user-data 2>/dev/null && [ "$(meta image)" = node-1 ] && [ -e $NODE/upper/usr/bin/tool ]
result $? 'an image that was not sent is refused, and nothing is touched'
script reimage node-2 base-1 user-data
is 'node-2 base-1 user-data' "$(meta image) $(meta base) $(meta config)" 'another image and config are named at once'
kept
result $? 'data stays, what lay over the old image goes' "$(find $NODE | tr '\n' ' ')"
is 'base-1 node-1 node-2' "$(ls $HOME_DIR/bundles | tr '\n' ' ' | sed 's/ $//')" 'the trees of now and of before stay, others go'
script reimage node-2 base-1 user-data && [ "$(meta previous)" = 'node-1 base-1' ]
result $? 'the same again changes nothing of that' "$(meta previous)"

# Interrupted when the layer has been put aside, and when half of it is back.
lay_over
mv $NODE/upper $NODE/upper.old
script reimage node-1 base-1 user-data.2 && kept
result $? 'a change that was cut short before anything was moved is finished' "$(find $NODE | tr '\n' ' ')"
lay_over
mv $NODE/upper $NODE/upper.old && mkdir -p $NODE/upper/etc && mv $NODE/upper.old/var $NODE/upper/var
script reimage node-2 base-1 user-data && kept
result $? 'and one that was cut short half way' "$(find $NODE | tr '\n' ' ')"
is 'node-2 node-1' "$(meta image) $(meta previous | cut -d' ' -f1)" 'the way back is to the image before'
echo "$PASSED passed, $FAILED failed, 0 skipped"
[ $FAILED = 0 ]
