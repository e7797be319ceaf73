#!/bin/bash
# kprov delete cluster leaves this host as it was: processes, mounts, namespaces, links, nft rules and cgroups are compared
# before and after, for a finished cluster, for ones whose creation was killed at many moments, and for one whose state was lost.
set -u
cd "$(dirname "$0")/../.." || exit 1
KPROV=$PWD/${BUILD:-build}/bin/kprov
[ "$(id -u)" = 0 ] || { echo 'SKIP: machines of this host need root'; exit 77; }
DIR=$(mktemp -d /tmp/e2e-local-XXXXXX)
export KPROV_STATE_DIR=$DIR/state KPROV_LOCAL_DIR=$DIR/local HOME=$DIR/home
NAME=e2eleft
PASSED=0 FAILED=0

# What a machine of ours could leave on this host. Other work on the host has names of its own.
snapshot() {
    {
        # A process that ended leaves no cgroup behind; a zombie waits only for the host's init to reap it.
        for proc in $(grep -l kprov- /proc/[0-9]*/cgroup 2>/dev/null); do
            grep -q '^State:.Z' "${proc%/cgroup}/status" 2>/dev/null || echo "process ${proc%/cgroup}"
        done
        pgrep -a -x kprov-init | sed 's/^/process /'
        sed 's/^/mount /' /proc/self/mounts
        ip -o link | sed 's/^[0-9]*: \([^:]*\):.*/link \1/'
        ip route | sed 's/^/route /'
        nft --stateless list ruleset 2>/dev/null | sed 's/^/nft /'
        sysctl -a 2>/dev/null | grep '^net\.ipv4\.conf\..*\.forwarding'
        find /sys/fs/cgroup -type d -name 'kprov-*' -print
        ip netns list 2>/dev/null | sed 's/^/netns /'
        find "$DIR/local" -mindepth 1 ! -name lock -print 2>/dev/null
        find "$DIR/state" -mindepth 1 -print 2>/dev/null
        find "$HOME/.kube" -mindepth 1 ! -name config -print 2>/dev/null
    } | sort >"$1"
}

# What was not there before may not be there after, once the kernel has had its moment to take namespaces apart.
check() { # name
    for _ in $(seq 20); do
        snapshot "$DIR/after"
        comm -13 "$DIR/before" "$DIR/after" >"$DIR/left"
        [ -s "$DIR/left" ] || break
        sleep 0.1
    done
    if [ -s "$DIR/left" ]; then
        echo "not ok - $1: left behind:"
        cat "$DIR/left"
        FAILED=$((FAILED + 1))
    else
        echo "ok - $1"
        PASSED=$((PASSED + 1))
    fi
}

cleanup() {
    "$KPROV" delete cluster $NAME --yes >/dev/null 2>&1
    rm -rf "$DIR"
}
trap cleanup EXIT

"$KPROV" image build >/dev/null || exit 1
snapshot "$DIR/before"

"$KPROV" create cluster $NAME --workers 2 --wait "${E2E_WAIT:-60s}" >"$DIR/create.log" 2>&1
created=$?
"$KPROV" get nodes --cluster $NAME >"$DIR/nodes" 2>/dev/null
if [ "$(grep -c ' on ' "$DIR/nodes")" = 3 ]; then
    echo 'ok - three machines run'
    PASSED=$((PASSED + 1))
else
    echo "not ok - three machines run (create ended with $created)"
    cat "$DIR/create.log" "$DIR/nodes"
    FAILED=$((FAILED + 1))
fi
"$KPROV" node stop $NAME worker-1 --force && "$KPROV" node stop $NAME worker-2 && "$KPROV" node start $NAME worker-1
"$KPROV" delete cluster $NAME --yes
check 'a whole cluster, with one machine off and one restarted, leaves nothing'

for ms in 5 15 25 35 45 60 80 100 130 170 250 500; do
    "$KPROV" create cluster $NAME --workers 2 --wait 30s >"$DIR/create.log" 2>&1 &
    pid=$!
    sleep "$(printf '0.%03d' $ms)"
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    if [ -d "$DIR/state/$NAME" ]; then
        "$KPROV" delete cluster $NAME --yes 2>"$DIR/delete.log" || { cat "$DIR/delete.log"; FAILED=$((FAILED + 1)); }
    fi
    check "a creation killed after $ms ms leaves nothing once deleted"
done

# An interrupted creation is finished by running it again: every machine there, none twice.
"$KPROV" create cluster $NAME --workers 2 --wait 30s >"$DIR/create.log" 2>&1 &
pid=$!
sleep 0.05
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
"$KPROV" create cluster $NAME --workers 2 --wait "${E2E_WAIT:-60s}" >"$DIR/create.log" 2>&1
if [ "$("$KPROV" get nodes --cluster $NAME 2>/dev/null | grep -c ' on ')" = 3 ]; then
    echo 'ok - an interrupted creation is finished by running it again'
    PASSED=$((PASSED + 1))
else
    echo 'not ok - an interrupted creation is finished by running it again'
    cat "$DIR/create.log"
    FAILED=$((FAILED + 1))
fi
"$KPROV" delete cluster $NAME --yes
check 'a cluster finished by a second run leaves nothing'

echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
