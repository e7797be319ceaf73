#!/bin/bash
# kprov on a cloud with an API, against the fake one: what is shown and refused before anything is made, an API behind a load balancer, its targets
# as control planes come, what the cloud-controller-manager is given, deletion without a trace, and gc.
#   BUILD=build tests/faults/clouds.sh       after make faults-bins
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
if [ "$(id -u)" = 0 ] && [ -z "${FAULTS_INSIDE:-}" ]; then
  export BUILD FAULTS_INSIDE=1
  exec unshare --net -- sh -c 'ip link set lo up && exec "$0" "$@"' tests/faults/clouds.sh "$@"
fi
. tests/e2e/checks.sh
KPROV=$PWD/$BUILD/faults/kprov
export FAKE_CLOUD_MACHINE=$PWD/$BUILD/faults/fake-machine FAKE_CLOUD_PROGRAMS=$PWD/$BUILD/bin FAKE_CLOUD_API=1 FAKE_CLOUD_NET=127.89
for tool in "$KPROV" "$FAKE_CLOUD_MACHINE"; do [ -x "$tool" ] || { echo "no $tool: make faults-bins" >&2; exit 1; }; done
DIR=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)/kprov-clouds-XXXXXX")
export KPROV_STATE_DIR=$DIR/state KPROV_LOCAL_DIR=$DIR/world HOME=$DIR KUBECONFIG=$DIR/kubeconfig
FORWARDER=
cleanup() {
  [ -z "$FORWARDER" ] || kill "$FORWARDER" 2>/dev/null
  for pid in "$DIR"/world/*/machines/*/pid; do [ -e "$pid" ] && kill -9 -- "-$(cat "$pid")" 2>/dev/null; done
  rm -rf "$DIR"
}
trap cleanup EXIT
kprov() { timeout -k 5 60 "$KPROV" "$@"; }
uid() { sed -n 's/.*"uid": "\([^"]*\)".*/\1/p' "$KPROV_STATE_DIR/f/cluster.json"; }
world() { find "$DIR/world" -mindepth 1 ! -name lock 2>/dev/null; }
json() { python3 -c 'import json,sys; d=json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }

# ---- before anything is made
kprov create cluster f --provider fake --control-planes 3 --workers 1 --machine medium --dry-run -o json >"$DIR/dry" 2>"$DIR/log"
result $? 'a dry run succeeds' "$(cat "$DIR/log")"
is 'load balancer api' "$(json '[r["object"]+" "+r["name"] for r in d if r["object"].startswith("load")][0]' <"$DIR/dry")" 'the API is behind a load balancer'
is 'medium: 2 vCPU, 2048 MiB, 20 GiB' "$(json '[r["size"] for r in d if r["name"]=="f-cp-3"][0]' <"$DIR/dry")" 'machines are shown with their sizes'
is '' "$(world)$(ls -A "$KPROV_STATE_DIR" 2>/dev/null)" 'a dry run makes nothing'
kprov create cluster f --provider fake --machine huge >"$DIR/log" 2>&1
is '1 1' "$? $(grep -c 'machine type "huge" is not sold here' "$DIR/log")" 'a size that is not sold is refused'
is '' "$(world)$(ls -A "$KPROV_STATE_DIR" 2>/dev/null)" 'and nothing is made'

# ---- a cluster; the balancer's data path is this script's
python3 - "$DIR/world" 6443 <<'PY' &
import glob, os, re, socket, sys, threading, time
world, port = sys.argv[1], int(sys.argv[2])
def read(path):
    try: return open(path).read().strip()
    except OSError: return ""
while not glob.glob(world + "/*/addresses/balancer.api"): time.sleep(0.05)
address = glob.glob(world + "/*/addresses/balancer.api")[0]
def targets(): # what the cloud was told, in turn
    return re.findall(r'"address":"([0-9.]+)"', read(os.path.dirname(os.path.dirname(address)) + "/balancers/api/spec"))
def pump(a, b):
    try:
        while (data := a.recv(65536)): b.sendall(data)
    except OSError: pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
def serve(client):
    for target in targets():
        try: server = socket.create_connection((target, port), 1)
        except OSError: continue
        threading.Thread(target=pump, args=(client, server), daemon=True).start()
        return pump(server, client)
    client.close()
listener = socket.create_server((read(address), port))
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
PY
FORWARDER=$!
kprov create cluster f --provider fake --workers 1 --machine small --wait 40s >"$DIR/log" 2>&1
result $? 'a cluster behind a load balancer is created' "$(tail -n 3 "$DIR/log")"
U=$(uid) W=$DIR/world/$U
is "https://$(cat "$W/addresses/balancer.api"):6443" "$(sed -n 's/.*"endpoint": "\([^"]*\)".*/\1/p' "$KPROV_STATE_DIR/f/cluster.json")" 'its endpoint is the balancer'
is 1 "$(grep -o '"machine":"f-cp-1"' "$W/balancers/api/spec" | wc -l)" 'the balancer leads to the control plane'
is 0 "$(grep -c f-worker-1 "$W/balancers/api/spec")" 'and not to the worker'
is '10.244.0.0/16' "$(cat "$W/machines/f-worker-1/forward")" 'machines may forward what pods send'
is '' "$(find "$W/machines" -name vip.conf -o -name kprov-vip.yaml)" 'nobody holds an address'
is 1 "$(grep -c 'cloud-provider=external' "$W/machines/f-worker-1/user-data")" 'the kubelet waits for the cloud-controller-manager'
grep -q 'Z balancer api done' "$KPROV_STATE_DIR/f/journal"
result $? 'the balancer is in the journal' "$(grep balancer "$KPROV_STATE_DIR/f/journal")"
# shellcheck disable=SC2312 # a failure of openssl shows as a name that is missing
is 1 "$(timeout 10 openssl s_client -connect "$(cat "$W/addresses/f-cp-1"):6443" </dev/null 2>/dev/null | openssl x509 -noout -text | grep -c "IP Address:$(cat "$W/addresses/balancer.api")")" 'the API server is certified for the balancer'
kprov scale controlplane f --replicas 3 --wait 50s >"$DIR/log" 2>&1
result $? 'two control planes join' "$(tail -n 3 "$DIR/log")"
is 3 "$(grep -o '"machine":"f-cp-[123]"' "$W/balancers/api/spec" | sort -u | wc -l)" 'the balancer leads to all three'

# ---- gc
mv "$KPROV_STATE_DIR/f" "$DIR/aside"
kprov gc --provider fake -o json >"$DIR/gc" 2>"$DIR/log"
result $? 'gc of a cluster that is not known here' "$(cat "$DIR/log")"
is "True" "$(json "len(d) > 4 and all(r['cluster']=='$U' and r['outcome']=='left' for r in d)" <"$DIR/gc")" 'everything of it is listed and left'
kprov gc --provider fake --yes >"$DIR/log" 2>&1
[ -e "$W/machines/f-cp-1" ]
result $? 'a stranger does not go unless named' "$(cat "$DIR/log")"
kprov gc --provider fake --cluster-uid 00000000-0000-4000-8000-000000000000 --yes >"$DIR/log" 2>&1
is '1 1' "$? $(grep -c 'nothing carries the tag' "$DIR/log")" 'a uid that nobody has is an error'
mv "$DIR/aside" "$KPROV_STATE_DIR/f"
kprov gc -o json >"$DIR/gc" 2>"$DIR/log"
is '0 []' "$? $(json 'd' <"$DIR/gc")" 'of a cluster in order nothing is left over'

# ---- deletion
kprov delete cluster f --yes -o json >"$DIR/receipt" 2>"$DIR/log"
result $? 'the cluster is deleted' "$(tail -n 3 "$DIR/log")"
is 'True' "$(json 'any(r["object"]=="load balancer" and r["name"]=="api" for r in d["removed"])' <"$DIR/receipt")" 'the receipt has the load balancer'
is '' "$(world)$(ls -A "$KPROV_STATE_DIR" 2>/dev/null)" 'nothing is left'

# ---- a cluster whose state was lost
kill "$FORWARDER" 2>/dev/null
kprov create cluster f --provider fake --workers 1 --wait 1s >"$DIR/log" 2>&1
is 1 $? 'a cluster whose API is out of reach is not finished'
U=$(uid)
rm -rf "${KPROV_STATE_DIR:?}/f"
kprov gc --provider fake --cluster-uid "$U" --yes >"$DIR/log" 2>&1
result $? 'gc removes it when it is named' "$(cat "$DIR/log")"
is '' "$(world)" 'and nothing is left'
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
