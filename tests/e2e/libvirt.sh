#!/bin/bash
# Virtual machines by libvirt, emulated where there is no KVM: bad input makes nothing; a cluster of two machines comes up, one is turned off
# by its power button and on again; one undefined behind kprov's back is seen by plan and mended by apply; delete leaves nothing.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-${KPROV_TEST_CACHE:-/var/cache/kprov-tests}/kubectl}
NAME=e2elv
ADDRESS_S=${LIBVIRT_ADDRESS_S:-15} # three seconds on a quiet one
READY_S=${LIBVIRT_READY_S:-240} # on a busy machine; a quiet one needs a third of a minute
for tool in libvirtd qemu-system-x86_64; do command -v $tool >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }; done
[ "$(id -u)" = 0 ] || { echo 'SKIP: needs root'; exit 77; }
for tool in "$KUBECTL" virsh; do command -v "$tool" >/dev/null || { echo "no $tool: make test-deps, tests/tools/fetch-clients" >&2; exit 1; }; done
DIR=$(mktemp -d /tmp/e2e-libvirt-XXXXXX)
export KPROV_STATE_DIR=$DIR/state HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig
unset LIBVIRT_DEFAULT_URI
mkdir -p "$HOME"
chmod 755 "$DIR"
daemon_pid() { cat "/run/$1.pid" 2>/dev/null; }
daemon_runs() { kill -0 "$(daemon_pid "$1")" 2>/dev/null; }
OURS=''
for daemon in libvirtd virtlogd; do daemon_runs $daemon || OURS="$OURS $daemon"; done
v() { timeout 60 virsh -q -c qemu:///system "$@"; }
cleanup() {
  [ $FAILED = 0 ] || "$KPROV" logs $NAME cp-1 2>/dev/null | tail -n 20
  "$KPROV" delete cluster $NAME --yes >/dev/null 2>&1
  v undefine $NAME-cp-1 >/dev/null 2>&1
  ip link delete kpve2e 2>/dev/null
  for daemon in $OURS; do if daemon_runs "$daemon"; then kill "$(daemon_pid "$daemon")"; fi; done
  rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 143' TERM INT
config() { # EXTRA-LINES-OF-SPEC
  cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  provider: libvirt
  controlPlane: {replicas: 1}
  nodePools: [{name: worker, replicas: 1}]
$1
YAML
}
# What libvirt and kprov hold, in an order that does not change: the same before and after a refusal.
held() { v list --all --name | sort; v net-list --all --name | sort; v pool-list --all --name | sort; ls "$KPROV_STATE_DIR" 2>/dev/null; }
refused() { # WHAT WANTED-TEXT COMMAND...
  local what=$1 wanted=$2 before out status
  shift 2
  before=$(held)
  out=$(timeout 60 "$@" 2>&1)
  status=$?
  case $out in *"$wanted"*) ;; *) status=0 ;; esac
  [ $status != 0 ] && [ "$before" = "$(held)" ]
  result $? "refused before anything is made: $what" "$out"
}

# ---- bad input ---------------------------------------------------------------------------------------------------------
config ''
"$KPROV" image build --vm >/dev/null 2>"$DIR/image.log"
result $? 'the image for virtual machines is built' "$(tail -n 3 "$DIR/image.log")"
refused 'a URI that is none' 'such as qemu:///system' env LIBVIRT_DEFAULT_URI=nonsense:///x "$KPROV" create cluster -f "$DIR/cluster.yaml"
# The first one that reaches libvirt: kprov starts its daemons when nobody runs them.
# Not one in mounts of its own: they would have those for good.
"$KPROV" create cluster $NAME --provider libvirt --image node-0123456789abcdef >"$DIR/first.log" 2>&1
daemon_runs libvirtd && daemon_runs virtlogd
result $? 'the daemons run, whoever started them' "$(cat "$DIR/first.log")"
unshare -m sh -c 'mkdir -p /var/lib/libvirt/kprov && mount -t tmpfs -o size=64m tmpfs /var/lib/libvirt/kprov && exec "$@"' sh \
  "$KPROV" create cluster -f "$DIR/cluster.yaml" >"$DIR/space.log" 2>&1
grep -q 'are free: make room' "$DIR/space.log" && [ ! -e "$KPROV_STATE_DIR/$NAME" ]
result $? 'refused before anything is made: no room for the disks' "$(cat "$DIR/space.log")"
refused 'no permission' 'with sudo' setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/ "$KPROV" create cluster -f "$DIR/cluster.yaml"
v define /dev/stdin >/dev/null <<XML
<domain type='qemu'><name>$NAME-cp-1</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>
XML
refused "a name that is another's domain's" "$NAME-cp-1 already" "$KPROV" create cluster -f "$DIR/cluster.yaml"
v undefine $NAME-cp-1 >/dev/null
ip link add kpve2e type bridge && ip addr add 10.77.9.1/24 dev kpve2e && ip link set kpve2e up
config '  network: {machineCIDR: 10.77.9.0/24}'
refused "a range that overlaps the host's" '10.77.9.0/24' "$KPROV" create cluster -f "$DIR/cluster.yaml"
ip link delete kpve2e
config '  image: node-0123456789abcdef'
refused 'an image that is not there' 'node-0123456789abcdef' "$KPROV" create cluster -f "$DIR/cluster.yaml"

# ---- a cluster ---------------------------------------------------------------------------------------------------------
config ''
held >"$DIR/before"
start=$(now_ms)
"$KPROV" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait "${READY_S}s" >"$DIR/create.log" 2>&1
result $? 'a control plane and a worker, virtual machines, are Ready' "$(tail -n 5 "$DIR/create.log")"
sed 's/^/    /' "$DIR/create.log"
echo "    created in $((($(now_ms) - start) / 1000)) s"
[ $FAILED = 0 ] || { echo "$PASSED passed, $FAILED failed, 0 skipped"; exit 1; }
is_ready() { [ "$(k get node "$NAME-$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]; }
is_ready cp-1 && is_ready worker-1
result $? 'kubectl sees both'
[ "$(k get --raw /readyz)" = ok ]
result $? 'its API server answers at the shared address'
"$KPROV" plan -f "$DIR/cluster.yaml" >"$DIR/plan" 2>&1
result $? 'plan has nothing to do' "$(cat "$DIR/plan")"

# ---- a Service of type LoadBalancer: an address of the machines' network, which this host reaches ---------------------------
k create deployment web --image=registry.kprov.dev/busybox:1.35 -- sh -c 'mkdir -p /www && echo hello >/www/index.html && exec httpd -f -p 80 -h /www' >/dev/null
timeout 120 "$KUBECTL" rollout status deployment/web --timeout=100s >/dev/null
result $? 'an application runs on the worker' "$(k get pods -o wide 2>&1)"
has_address() { BALANCED=$(k get service web -o 'jsonpath={.status.loadBalancer.ingress[0].ip}') && [ -n "$BALANCED" ]; }
from=$(now_ms)
k expose deployment web --type=LoadBalancer --port=80 >/dev/null && eventually "$ADDRESS_S" has_address
result $? "a Service of type LoadBalancer has an address after $(($(now_ms) - from)) ms" "$(k describe service web 2>&1 | tail -n 5)"
answers() { [ "$(curl -sf -m 2 "http://$BALANCED/")" = hello ]; }
eventually $((READY_S / 4)) answers
result $? "and answers at it from this host ($(($(now_ms) - from)) ms)" "$(curl -sS -m 2 "http://$BALANCED/" 2>&1)"
k delete service/web deployment/web --wait=false >/dev/null

# ---- a pause: the machine's own time stands still, its real-time clock goes on -----------------------------------------------
clock_is_right() {
  local there
  there=$(timeout 60 "$KPROV" exec $NAME worker-1 -- date +%s </dev/null) && there=$((there - $(date +%s))) && [ "${there#-}" -le 3 ]
}
"$KPROV" exec $NAME worker-1 -- pidof chronyd </dev/null >/dev/null && clock_is_right
result $? 'a machine keeps time'
v suspend $NAME-worker-1 && sleep 15 && v resume $NAME-worker-1
from=$(now_ms)
eventually 45 clock_is_right
result $? "after a pause of 15 s its clock is right again ($(($(now_ms) - from)) ms)" "$("$KPROV" logs $NAME worker-1 2>&1 | tail -n 3)"
is_ready worker-1
result $? 'and it is Ready still' "$(k get nodes 2>&1)"

# ---- power -------------------------------------------------------------------------------------------------------------
k create configmap kept --from-literal=a=b >/dev/null
"$KPROV" node stop $NAME cp-1 >"$DIR/stop.log" 2>&1 && [ "$(v domstate $NAME-cp-1)" = 'shut off' ]
result $? 'the control plane is turned off' "$(cat "$DIR/stop.log")"
log=$(ls /var/lib/libvirt/kprov/*/$NAME-cp-1.log)
grep -q 'machine off' "$log"
result $? 'by its power button, in an orderly way' "$(tail -n 3 "$log")"
"$KPROV" node start $NAME cp-1 >"$DIR/start.log" 2>&1
result $? 'it is turned on' "$(cat "$DIR/start.log")"
kept() { [ "$(k get configmap kept -o 'jsonpath={.data.a}')" = b ]; }
eventually "$READY_S" kept
result $? 'what was written is there after the reboot'

# ---- behind our back: a worker, for what etcd held goes with the only control plane ----------------------------------------
v destroy $NAME-worker-1 >/dev/null && v undefine $NAME-worker-1 >/dev/null
"$KPROV" plan -f "$DIR/cluster.yaml" >"$DIR/plan" 2>&1
[ $? = 2 ] && grep -q "$NAME-worker-1" "$DIR/plan"
result $? 'plan says which machine was undefined behind its back, and ends with 2' "$(cat "$DIR/plan")"
"$KPROV" apply -f "$DIR/cluster.yaml" --yes >"$DIR/apply.log" 2>&1
result $? 'apply mends it' "$(tail -n 5 "$DIR/apply.log")"
[ "$(v domstate $NAME-worker-1)" = running ] && is_ready worker-1
result $? 'it runs and is Ready' "$(k get nodes 2>&1)"

# ---- the end -----------------------------------------------------------------------------------------------------------
uid=$(basename "$(dirname "$log")")
"$KPROV" delete cluster $NAME --yes >"$DIR/delete.log" 2>&1
result $? 'it is deleted' "$(cat "$DIR/delete.log")"
held >"$DIR/after"
! diff "$DIR/before" "$DIR/after" | grep -v kprov-images | grep -q '^[<>]'
result $? 'no domain, network or pool is left' "$(diff "$DIR/before" "$DIR/after")"
[ ! -e "/var/lib/libvirt/kprov/$uid" ] && ! pgrep -f "kprov-$uid" >/dev/null && ! ip link show "kpv${uid%%-*}" >/dev/null 2>&1
result $? 'and no file, process or link'
echo "$PASSED passed, $FAILED failed, 0 skipped"
[ $FAILED = 0 ]
