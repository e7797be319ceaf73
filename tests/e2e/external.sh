#!/bin/bash
# Provider "external": two machines with sshd become a cluster and are what they were after its deletion. The machines are
# namespaces over this machine's own Debian, each with a network, processes and an sshd of its own.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
. tests/support/stock.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-/var/cache/kprov-tests/kubectl}
[ "$(id -u)" = 0 ] || { echo 'SKIP: making machines needs root'; exit 77; }
for tool in "$KUBECTL" /usr/sbin/sshd ssh-keygen unshare ip nft curl; do command -v "$tool" >/dev/null || { echo "no $tool: make test-deps" >&2; exit 1; }; done
DIR=$(mktemp -d /var/tmp/e2e-external-XXXXXX)
export KPROV_STATE_DIR=$DIR/state HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig
mkdir -p "$HOME"
unset SSH_AUTH_SOCK
NAME=e2eext NET=172.30.77 # outside of what other clusters of the suite use
OTHER=node-0000000000e2e000
pids=()
cleanup() {
  "$KPROV" delete cluster $NAME --yes >/dev/null 2>&1
  local pid
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; done
  stock_stop
  rm -rf --one-file-system "$DIR" "${KPROV_IMAGE_DIR:-/var/lib/kprov/images}/$OTHER"
}
trap cleanup EXIT
trap 'exit 143' TERM INT

# ---- the machines
stock_start $NET 2 || { echo "0 passed, 1 failed"; exit 1; }
on() { stock_on "$@"; }
# All that a node could leave: files, mounts, processes, addresses, routes, rules, links, settings, cgroups.
look() { # of its root only what differs from this machine's, which others change meanwhile
  find "$DIR/m$1/rw/upper" "$DIR/m$1/disk" | grep -v '/var/log/\(wtmp\|lastlog\|btmp\)$' | sort
  on "$1" 'cat /proc/self/mounts; ip -o address | sed "s/valid_lft.*//"; ip route show table all; ip rule; nft list tables; ls /sys/class/net; hostname;
    for p in /proc/[0-9]*; do tr "\0" " " <$p/cmdline 2>/dev/null; echo; done | grep -v "sshd: \|^sh -c\|^bash -c\|^tr \|^sort\|^grep" | sort -u;
    cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/bridge/bridge-nf-call-ip*tables; find /sys/fs/cgroup -name "kprov-node*-e2eext-*"; find /run /tmp | grep -v sshd'
}
# An address is "tentative" until nobody has objected, and not routed: not yet what the machine is.
settled() { ! on "$1" 'ip -o -6 address show tentative' | grep -q .; }
for m in 1 2; do eventually 10 settled $m; look $m >"$DIR/before-$m"; done

config() { # file, host key of machine 2
  cat >"$1" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  provider: external
  controlPlane: {replicas: 1}
  nodePools:
  - {name: worker, replicas: 1}
  external:
    apiAddress: $NET.100
    machines:
    - {address: $NET.11, keyFile: $DIR/id, hostKey: $(stock_key 1), role: control-plane}
    - {address: $NET.12, keyFile: $DIR/id, hostKey: $2, role: worker, pool: worker}
YAML
}
config "$DIR/cluster.yaml" "$(stock_key 2)"

# ---- refused before anything is made
config "$DIR/wrong-key.yaml" "$(stock_key 1)"
ip netns exec kpx1 perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalPort => 10250, Listen => 1, ReuseAddr => 1) or die "port 10250: $!\n"; sleep 300' &
busy=$!
pids+=($busy)
eventually 5 on 1 'grep -q ":280A 0*:0000 0A" /proc/net/tcp'
timeout 60 "$KPROV" create cluster -f "$DIR/wrong-key.yaml" --kubeconfig "$KUBECONFIG" >"$DIR/out" 2>&1
is 1 $? 'unfit machines are refused'
grep -q "^$NET.11 .*port 10250, which kubelet needs, is in use" "$DIR/out"
result $? 'a port that is taken is told with its machine and the remedy' "$(cat "$DIR/out")"
grep -q "^$NET.12 .*is not the one that is known" "$DIR/out"
result $? 'and another host key than the pinned one in the same table' "$(cat "$DIR/out")"
grep -q 'nothing was made: 2 problems' "$DIR/out"
result $? 'and nothing was made' "$(cat "$DIR/out")"
! "$KPROV" get clusters 2>/dev/null | grep -q $NAME
result $? 'not even a state'
kill $busy
wait $busy 2>/dev/null
for m in 1 2; do look $m >"$DIR/now" && diff "$DIR/before-$m" "$DIR/now" >"$DIR/diff"; result $? "machine $m is as it was" "$(head -n 5 "$DIR/diff")"; done

# ---- a cluster
start=$(date +%s%N)
timeout 150 "$KPROV" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait 120s >"$DIR/create.log" 2>&1
rc=$?
result $rc "both machines are Ready nodes after $((($(date +%s%N) - start) / 1000000)) ms" "$(tail -n 3 "$DIR/create.log")"
cat "$DIR/create.log"
if [ $rc != 0 ]; then
  on 1 'tail -n 20 /var/lib/kprov-node/node/console.log /var/lib/kprov-node/node/data/log/kprov/*.log; tail -n 5 /var/lib/kprov-node/node/data/log/pods/*/*/*.log'
  echo "$PASSED passed, $FAILED failed"
  exit 1
fi
is "$NAME-cp-1 $NET.11 $NAME-worker-1 $NET.12" \
  "$(k get nodes -o 'jsonpath={range .items[*]}{.metadata.name} {.status.addresses[?(@.type=="InternalIP")].address} {end}' | sed 's/ $//')" 'each is the node of its role'
is "https://$NET.100:6443" "$(k config view --minify -o 'jsonpath={.clusters[0].cluster.server}')" 'the API has the address of the file'
is "$NAME-worker-1" "$("$KPROV" exec $NAME worker-1 -- hostname)" 'kprov exec runs a command in the node'
is 'stock-2' "$("$KPROV" ssh $NAME worker-1 -- hostname)" 'kprov ssh logs in to the machine itself'
"$KPROV" logs $NAME cp-1 | grep -q 'machine up'
result $? 'kprov logs prints the console'
[ -n "$("$KPROV" logs $NAME worker-1 kubelet | head -n 1)" ]
result $? 'and the log of a program'
on 2 '[ ! -e /etc/kubernetes ] && [ ! -e /usr/lib/kprov ] && [ ! -e /var/lib/kubelet/config.yaml ]'
result $? "the machine's own root tree is untouched"

k create deployment web --image=registry.kprov.dev/busybox:1.35 --replicas=2 -- sh -c 'hostname > /tmp/index.html; exec httpd -f -p 80 -h /tmp' >/dev/null
k expose deployment web --port=80 --type=NodePort >/dev/null
eventually 60 k rollout status deployment web --timeout=1s
result $? 'a deployment runs'
port=$(k get service web -o 'jsonpath={.spec.ports[0].nodePort}')
eventually 10 curl -sf -m 2 "http://$NET.11:$port/" && curl -sf -m 2 "http://$NET.12:$port/" | grep -q '^web-'
result $? 'its Service answers on both machines'

"$KPROV" create cluster -f "$DIR/cluster.yaml" >"$DIR/out" 2>&1
grep -q 'exists already' "$DIR/out"
result $? 'a second creation is refused' "$(cat "$DIR/out")"
sed "s/name: $NAME/name: other/" "$DIR/cluster.yaml" >"$DIR/other.yaml"
timeout 60 "$KPROV" create cluster -f "$DIR/other.yaml" >"$DIR/out" 2>&1
grep -q "it is node $NAME-worker-1 of another cluster\|$NET.12 .*in use" "$DIR/out"
result $? 'another cluster cannot have the machines' "$(cat "$DIR/out")"

timeout 30 "$KPROV" plan -f "$DIR/cluster.yaml" >"$DIR/out" 2>&1
is 0 $? 'plan has nothing to do'
sed "s/$NET.12,/$NET.13,/" "$DIR/cluster.yaml" >"$DIR/without.yaml"
timeout 30 "$KPROV" apply -f "$DIR/without.yaml" --yes >"$DIR/out" 2>&1
rc=$?
[ $rc = 1 ] && grep -q "$NET.12 is node $NAME-worker-1 still" "$DIR/out"
result $? 'a machine that is a node cannot be taken off the list' "$rc: $(tail -n 3 "$DIR/out")"

"$KPROV" node stop $NAME worker-1 >/dev/null 2>&1
result $? 'a node is stopped'
! on 2 'ps -e -o args= 2>/dev/null | grep -q "[k]ubelet --"'
result $? 'nothing of it runs on the machine'
"$KPROV" node start $NAME worker-1 >/dev/null 2>&1
result $? 'and started again'
eventually 30 k wait --for=condition=Ready "node/$NAME-worker-1" --timeout=1s
result $? 'it is Ready again'
pid=$(on 2 'cut -d" " -f1 /var/lib/kprov-node/node/init')
on 2 "kill -9 $pid"
eventually 10 on 2 "[ -s /var/lib/kprov-node/node/init ] && ! grep -q '^$pid ' /var/lib/kprov-node/node/init"
result $? 'a node whose init is killed is started again by its supervisor'

# ---- another image, and back: one that is the same but for its name, so that nothing has to be built. EXTERNAL_UPGRADE=0 leaves it out.
if [ "${EXTERNAL_UPGRADE:-1}" != 0 ]; then
IMAGES=${KPROV_IMAGE_DIR:-/var/lib/kprov/images}
FIRST=$("$KPROV" get nodes --cluster $NAME -o json | sed -n 's/.*"image": *"\([^"]*\)".*/\1/p' | head -n 1)
cp -al "$IMAGES/$FIRST" "$IMAGES/$OTHER"
# On the machines too: that a tree is sent was seen at the creation. EXTERNAL_SEND=1 has it sent again.
[ -n "${EXTERNAL_SEND:-}" ] || for m in 1 2; do on $m "cp -al /var/lib/kprov-node/bundles/$FIRST /var/lib/kprov-node/bundles/$OTHER"; done
images() { for m in 1 2; do on $m 'sed -n "s/^image=//p" /var/lib/kprov-node/node/meta'; done | sort | uniq -c | awk '{ printf "%s %s ", $1, $2 }'; }
on 2 'echo mine >/var/lib/kprov-node/node/upper/var/kept; echo old >/var/lib/kprov-node/node/upper/etc/dropped'
start=$(date +%s%N)
timeout 150 "$KPROV" upgrade cluster $NAME --image $OTHER --yes >"$DIR/out" 2>&1
result $? "both nodes get another image after $((($(date +%s%N) - start) / 1000000)) ms" "$(tail -n 5 "$DIR/out")"
cat "$DIR/out"
is "2 $OTHER " "$(images)" 'each machine has it'
is mine "$("$KPROV" exec $NAME worker-1 -- cat /var/kept)" 'what lay below /var is kept'
! "$KPROV" exec $NAME worker-1 -- test -e /etc/dropped
result $? 'what was changed elsewhere is not'
k get deployment web >/dev/null && eventually 30 k rollout status deployment web --timeout=1s
result $? 'the deployment runs, and etcd has its data' "$(k get pods -o wide 2>&1)"
start=$(date +%s%N)
timeout 150 "$KPROV" rollback cluster $NAME --yes >"$DIR/out" 2>&1
result $? "and back after $((($(date +%s%N) - start) / 1000000)) ms" "$(tail -n 5 "$DIR/out")"
is "2 $FIRST " "$(images)" 'each machine has the first one again'
eventually 30 k wait --for=condition=Ready nodes --all --timeout=1s
result $? 'both nodes are Ready'
served() { timeout 5 openssl s_client -connect $NET.12:10250 </dev/null 2>/dev/null | openssl x509 -noout -fingerprint; }
before=$(served)
timeout 100 "$KPROV" certs renew $NAME --node worker-1 >"$DIR/out" 2>&1
rc=$?
[ $rc = 0 ] && [ -n "$before" ] && [ "$(served)" != "$before" ]
result $? 'certificates are renewed on machines that exist' "$rc: $(tail -n 5 "$DIR/out")"
fi

# ---- and nothing of it
start=$(date +%s%N)
timeout 120 "$KPROV" delete cluster $NAME --yes >"$DIR/delete.log" 2>&1
result $? "deleted after $((($(date +%s%N) - start) / 1000000)) ms" "$(tail -n 5 "$DIR/delete.log")"
cat "$DIR/delete.log"
for m in 1 2; do look $m >"$DIR/now" && diff "$DIR/before-$m" "$DIR/now" >"$DIR/diff"; result $? "nothing is left on machine $m" "$(head -n 10 "$DIR/diff")"; done
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
