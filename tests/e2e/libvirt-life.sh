#!/bin/bash
# What virtual machines of libvirt live through: Services' addresses that move when their holder is destroyed (lb), pools that grow and shrink and
# certificates that are renewed, etcd saved and restored (day2), another build and back (upgrade), a control plane undefined behind kprov's back (repair).
# SECTIONS picks of "lb day2 upgrade repair": each makes a cluster of its own, and takes minutes where machines are emulated.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
BUILD=${BUILD:-build}
KPROV=$PWD/$BUILD/bin/kprov
KUBECTL=${KUBECTL:-${KPROV_TEST_CACHE:-/var/cache/kprov-tests}/kubectl}
SECTIONS=${SECTIONS:-lb day2 upgrade repair}
NEXT=v1.36.99
READY_S=${LIBVIRT_READY_S:-300} # on a busy machine
for tool in libvirtd qemu-system-x86_64; do command -v $tool >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }; done
[ "$(id -u)" = 0 ] || { echo 'SKIP: needs root'; exit 77; }
for tool in "$KUBECTL" virsh curl python3 openssl; do command -v "$tool" >/dev/null || { echo "no $tool: make test-deps, tests/tools/fetch-clients" >&2; exit 1; }; done
DIR=$(mktemp -d /tmp/e2e-libvirt-life-XXXXXX)
export KPROV_STATE_DIR=$DIR/state HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig
unset LIBVIRT_DEFAULT_URI
NAME=e2elife
ASIDE=kpve2elife # a namespace: another machine of the machines' network
export API_SECONDS=5 # of a request
mkdir -p "$HOME"
v() { timeout 60 virsh -q -c qemu:///system "$@"; }
cleanup() {
  rm -f "$DIR/writing" "$DIR/watching"
  if [ $FAILED != 0 ] && [ -n "${KEEP_LOGS:-}" ]; then
    mkdir -p "$KEEP_LOGS" && cp "$DIR"/*.log /var/lib/libvirt/kprov/*/$NAME-*.log "$KEEP_LOGS" 2>/dev/null
  fi
  wait
  ip netns delete $ASIDE 2>/dev/null
  machines_weigh_as_before
  [ -n "${KEEP:-}" ] && { echo "kept: KPROV_STATE_DIR=$KPROV_STATE_DIR KUBECONFIG=$KUBECONFIG"; return; }
  "$KPROV" delete cluster $NAME --yes >/dev/null 2>&1
  rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 143' TERM INT
took_s() { echo $((($(now_ms) - $1) / 1000)); }
ready_nodes() { [ "$(k get nodes --no-headers 2>/dev/null | grep -c ' Ready ')" = "$1" ]; }
address() { "$KPROV" get nodes --cluster $NAME 2>/dev/null | awk -v n="$NAME-$1" '$1 == n { print $4 }'; }
kprov() { # WHAT COMMAND...: has to succeed; its output is in $DIR/step.log
  local what=$1 from status
  shift
  from=$(now_ms)
  timeout 900 "$KPROV" "$@" >"$DIR/step.log" 2>&1
  status=$?
  result $status "$what ($(took_s "$from") s)" "$(tail -n 5 "$DIR/step.log")"
  return $status
}
create() { # CONTROL-PLANES WORKERS [EXTRA-LINES-OF-SPEC]
  cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  provider: libvirt
  controlPlane: {replicas: $1}
  nodePools: [{name: worker, replicas: $2}]
${3:-}
YAML
  machines_weigh
  kprov "control planes ($1) and workers ($2), virtual machines, are Ready" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait "${READY_S}s" || return 1
  machines_weigh # the group may not have been there before
  split_kubeconfig "$KUBECONFIG" "$DIR"
}
gone() {
  kprov 'the cluster is deleted' delete cluster $NAME --yes
  ! v list --all --name | grep -q "^$NAME-" && ! "$KPROV" get clusters | grep -q "^$NAME "
  result $? 'and no domain of it is left'
}
section() { case " $SECTIONS " in *" $1 "*) echo "# $1" ;; *) return 1 ;; esac; }

# ---- Services of type LoadBalancer --------------------------------------------------------------------------------------------------
field() { k get service "$1" -o "jsonpath={$2}"; }
address_of() { field "$1" '.status.loadBalancer.ingress[0].ip'; }
has_address() { [ -n "$(address_of "$1")" ]; }
web() { # NAME REPLICAS: /who tells the client's address, / is cheap; spread over the nodes
  cat <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: $1}
spec:
  replicas: $2
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: $1}}}
      containers:
      - name: web
        image: registry.kprov.dev/busybox:1.35
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        command: [sh, -c]
        args:
        - |
          mkdir -p /tmp/www/cgi-bin
          echo "\$NODE" >/tmp/www/index.html
          printf '#!/bin/sh\nprintf "Content-Type: text/plain\\\\r\\\\n\\\\r\\\\n%%s %%s\\\\n" "\$NODE" "\$REMOTE_ADDR"\n' >/tmp/www/cgi-bin/who
          chmod +x /tmp/www/cgi-bin/who
          exec httpd -f -p 80 -h /tmp/www
---
YAML
}
asks() { curl -sf -m "${2:-5}" "http://$1/"; }
aside() { timeout 20 ip netns exec $ASIDE "$@"; }
mac_of() { ip -4 neigh show "$1" | sed -n 's/.*lladdr \([0-9a-f:]*\).*/\1/p'; }
holder_of() { # ADDRESS: the domain whose link answers for it
  local mac domain
  ping -c 1 -W 2 "$1" >/dev/null 2>&1
  mac=$(mac_of "$1")
  for domain in $(v list --name | grep "^$NAME-"); do v domiflist "$domain" | grep -q "${mac:-none}" && echo "$domain"; done
}
another_holds() { local now; now=$(holder_of "$1"); [ -n "$now" ] && [ "$now" != "$2" ]; }
asker() { # ADDRESS FILE: four at a time, new connections; when each answer came
  python3 - "$1" "$2" <<'PY'
import os, socket, sys, threading, time
address, stop = sys.argv[1], sys.argv[2]
lock = threading.Lock()
out = open(stop + ".answers", "w", buffering=1)
def ask():
    while os.path.exists(stop):
        try:
            with socket.create_connection((address, 80), timeout=0.5) as s:
                s.settimeout(0.5)
                s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if b" 200 OK" in s.recv(200):
                    with lock:
                        out.write("%d\n" % (time.time() * 1000))
        except OSError:
            pass
        time.sleep(0.05)
threads = [threading.Thread(target=ask) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
PY
}
longest_silence() { # from-ms to-ms
  awk -v from="$1" -v to="$2" 'BEGIN { last = from } $1 >= from && $1 <= to { if ($1 - last > gap) gap = $1 - last; last = $1 } END { if (to - last > gap) gap = to - last; print gap + 0 }' "$DIR/watching.answers"
}
udp_lookup() { # ADDRESS: the cluster's DNS from outside
  timeout 10 python3 - "$1" <<'PY'
import socket, struct, sys
name = b"".join(bytes([len(p)]) + p for p in b"kubernetes.default.svc.cluster.local".split(b".")) + b"\0"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.sendto(struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + name + struct.pack(">HH", 1, 1), (sys.argv[1], 53))
answer = s.recv(512)
sys.exit(0 if struct.unpack(">H", answer[6:8])[0] == 1 else 1)
PY
}
run_lb() {
  create 1 2 || return
  local from took ip solo holder node client own bridge base gap
  { web web 2; web solo 1; } | k apply -f - >/dev/null
  for name in web solo; do timeout 150 "$KUBECTL" rollout status deployment/$name --timeout=140s >/dev/null || not_ok "deployment $name runs" "$(k get pods -o wide)"; done
  eventually 60 sh -c "timeout 20 '$KUBECTL' -n kube-system get pods -l k8s-app=cloud-controller-manager | grep -q Running"
  result $? 'the cloud-controller-manager runs' "$(k -n kube-system get pods 2>&1)"
  from=$(now_ms)
  k expose deployment web --type=LoadBalancer --port 80 >/dev/null
  eventually 15 has_address web
  took=$(($(now_ms) - from))
  [ $took -lt "${LIFE_ADDRESS_MS:-3000}" ]
  result $? "a LoadBalancer Service has an address within 3 s ($took ms)" "$took ms"
  ip=$(address_of web)
  eventually 20 asks "$ip"
  result $? "curl from this host answers ($(($(now_ms) - from)) ms after kubectl expose)" "$(curl -sS -m 5 "http://$ip/" 2>&1)"

  # Another machine of that network: a namespace with a link in its bridge.
  own=$(ip -4 route get "$ip" | sed -n 's/.* src \([0-9.]*\).*/\1/p')
  bridge=$(ip -4 route get "$ip" | sed -n 's/.* dev \([^ ]*\).*/\1/p')
  base=${own%.*}
  ip netns add $ASIDE && ip link add ${ASIDE}0 type veth peer name eth0 netns $ASIDE && ip link set ${ASIDE}0 master "$bridge" up &&
    aside ip addr add "$base.251/24" dev eth0 && aside ip link set eth0 up
  result $? 'a second client is in the network of the machines'
  eventually 10 aside curl -sf -m 2 "http://$ip/"
  result $? 'it is answered as well'

  # The client's address, and who may come.
  k expose deployment solo --type=LoadBalancer --port 80 --overrides '{"spec":{"externalTrafficPolicy":"Local"}}' >/dev/null
  eventually 15 has_address solo
  solo=$(address_of solo)
  eventually 20 asks "$solo"
  result $? "with externalTrafficPolicy Local it answers at $solo" "$(k get service solo 2>&1)"
  read -r node client <<<"$(curl -sf -m 5 "http://$solo/cgi-bin/who")"
  client=${client#[[]::ffff:} client=${client%]} # httpd writes an IPv4 client of its IPv6 socket so
  [ "$client" = "$own" ] && [ "$(holder_of "$solo")" = "$node" ]
  result $? "the pod sees the client's address, and its node holds the Service's" "client $client, host $own, pod on $node, held by $(holder_of "$solo")"
  k patch service solo --type merge -p "{\"spec\":{\"loadBalancerSourceRanges\":[\"$own/32\"]}}" >/dev/null
  refused() { ! aside curl -sf -m 1 -o /dev/null "http://$solo/"; }
  eventually 15 refused && asks "$solo" >/dev/null
  result $? 'source ranges refuse another machine of that network, and let this host in'
  k patch service solo --type merge -p "{\"spec\":{\"loadBalancerSourceRanges\":[\"203.0.113.0/24\",\"$base.251/32\"]}}" >/dev/null
  refused() { ! asks "$solo" 1; }
  eventually 15 refused && aside curl -sf -m 5 -o /dev/null "http://$solo/"
  result $? 'and the other way round'

  k apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: kube-system}
spec:
  type: LoadBalancer
  selector: {k8s-app: kube-dns}
  ports: [{name: dns, port: 53, protocol: UDP, targetPort: 53}]
YAML
  dns_answers() { udp_lookup "$(k -n kube-system get service dns -o 'jsonpath={.status.loadBalancer.ingress[0].ip}')"; }
  eventually 20 dns_answers
  result $? 'UDP: a name is looked up from outside'

  # The holder is destroyed. Its pods stay endpoints until its node is found lost, so every other connection fails: answers count.
  touch "$DIR/watching"
  asker "$ip" "$DIR/watching" &
  sleep 2
  holder=$(holder_of "$ip")
  sleep "${LIFE_SETTLE_S:-5}"
  from=$(now_ms)
  [ "$(longest_silence $((from - 4000)) "$from")" -le 1000 ]
  result $? "it answers all the time ($(awk -v from="$((from - 4000))" '$1 > from' "$DIR/watching.answers" | wc -l) times in 4 s)" "$(longest_silence $((from - 4000)) "$from") ms without"
  v destroy "$holder" >/dev/null
  sleep 12
  gap=$(longest_silence "$from" "$(now_ms)")
  [ "$gap" -le "${LIFE_GAP_MS:-2000}" ]
  result $? "with its holder $holder destroyed it answers again within 2 s ($gap ms)" "$gap ms"
  rm -f "$DIR/watching"
  eventually 10 another_holds "$ip" "$holder"
  result $? 'another machine holds the address' "$(holder_of "$ip")"
  kprov 'the destroyed machine is started again' node start $NAME "${holder#"$NAME"-}"

  k delete service web --timeout=15s >/dev/null
  result $? 'the Service goes'
  silent() { ip neigh flush to "$ip" 2>/dev/null; ! ping -c 1 -W 1 "$ip" >/dev/null 2>&1; }
  eventually 15 silent
  result $? 'and nobody answers for its address any more'
  k expose deployment web --name=again --type=LoadBalancer --port 80 --load-balancer-ip="$ip" >/dev/null
  again() { [ "$(address_of again)" = "$ip" ]; }
  eventually 15 again
  result $? 'which another may ask for' "$(address_of again)"
  eventually 60 ready_nodes 3
  result $? 'three nodes are Ready' "$(k get nodes 2>&1)"
  gone
}

# ---- the second day: pools, certificates, snapshots ----------------------------------------------------------------------------------
served() { timeout 10 openssl s_client -connect "$(address "$1"):$2" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256; } # node, port
available() { [ "$(k get deployment "$1" -o 'jsonpath={.status.availableReplicas}')" = "$2" ]; }
count_web() { # FILE: while it is there, how many pods of web were ready, each second
  local count
  while [ -e "$1" ]; do
    count=$(k get deployment web -o 'jsonpath={.status.availableReplicas}') && echo "${count:-0}" >>"$1.counts"
    sleep 1
  done
}
run_day2() {
  create 1 1 || return
  local before after
  k apply -f - >/dev/null <<'YAML'
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
YAML
  kprov 'the pool grows to two' scale nodepool $NAME worker --replicas 2
  ready_nodes 3
  result $? 'three nodes are Ready' "$(k get nodes 2>&1)"
  web web 2 | sed 's/DoNotSchedule/ScheduleAnyway/' | k apply -f - >/dev/null
  timeout 150 "$KUBECTL" rollout status deployment/web --timeout=140s >/dev/null
  [ "$(k get pods -l app=web -o 'jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u | wc -l)" = 2 ]
  result $? 'each of two pods with a disruption budget has a node of its own' "$(k get pods -o wide 2>&1)"
  touch "$DIR/watching"
  count_web "$DIR/watching" &
  kprov 'the pool shrinks to one, drained' scale nodepool $NAME worker --replicas 1
  rm -f "$DIR/watching"
  eventually 60 available web 2
  result $? 'both pods run on the node that is left' "$(k get pods -o wide 2>&1)"
  ! grep -qx 0 "$DIR/watching.counts" && [ -s "$DIR/watching.counts" ]
  result $? 'one of them was available all the time' "$(tr '\n' ' ' <"$DIR/watching.counts")"
  ! v list --all --name | grep -qx "$NAME-worker-2" && ! k get node $NAME-worker-2 >/dev/null 2>&1
  result $? 'neither the machine nor its Node is there'

  before=$(served cp-1 6443) after=$(served worker-1 10250)
  kprov 'certificates are renewed on machines that run' certs renew $NAME
  [ -n "$before" ] && [ "$(served cp-1 6443)" != "$before" ] && [ -n "$after" ] && [ "$(served worker-1 10250)" != "$after" ]
  result $? 'API server and kubelet serve new ones'
  before=$(served cp-1 6443) after=$(served worker-1 10250)
  k create configmap before --from-literal=a=1 >/dev/null
  kprov 'the control plane is turned off' node stop $NAME cp-1
  kprov 'and on' node start $NAME cp-1
  eventually "$READY_S" ready_nodes 2
  [ "$(served cp-1 6443)" = "$before" ] && [ "$(served worker-1 10250)" = "$after" ]
  result $? 'it boots with the renewed certificates' "$(served cp-1 6443), not $before"

  kprov 'etcd is saved' etcd snapshot save $NAME "$DIR/saved.db"
  k create configmap after --from-literal=a=2 >/dev/null && k delete configmap before >/dev/null
  kprov 'and restored in place' etcd snapshot restore $NAME "$DIR/saved.db" --yes
  eventually "$READY_S" ready_nodes 2
  result $? 'both nodes are Ready after it' "$(k get nodes 2>&1)"
  k get configmap before >/dev/null && ! k get configmap after >/dev/null 2>&1
  result $? 'what is there is as it was at the snapshot'
  eventually 120 available web 2
  result $? 'the application runs' "$(k get pods -o wide 2>&1)"
  gone
}

# ---- another build and back ------------------------------------------------------------------------------------------------------------
rolls() { # WHAT FIRST SECOND COMMAND...: both machines were turned off and on, the second after the first
  local what=$1 first=$2 second=$3 events
  shift 3
  timeout 900 virsh -q -c qemu:///system event --loop --event lifecycle >"$DIR/events.log" 2>&1 &
  events=$!
  sleep 1
  kprov "$what" "$@"
  kill $events
  wait $events 2>/dev/null
  events=$(sed -n "s/.*domain '*$NAME-\([a-z0-9-]*\)'*: \(Stopped\|Started\).*/\1 \2/p" "$DIR/events.log" | tr '\n' ',')
  [ "$events" = "$first Stopped,$first Started,$second Stopped,$second Started," ]
  result $? "$what: one machine at a time" "$events"
}
all_are() { [ "$(k get nodes -o 'jsonpath={range .items[*]}{.status.nodeInfo.kubeletVersion} {.spec.unschedulable}{"\n"}{end}' | grep -c "^$1 $")" = 2 ]; }
run_upgrade() {
  local old=$KPROV new=$PWD/$BUILD/bin-next/kprov first
  make -s BUILD="$BUILD" CC="${CC:-gcc}" BIN="$BUILD/bin-next" KUBERNETES_VERSION=$NEXT all >"$DIR/make.log" 2>&1
  result $? "a build of $NEXT" "$(tail -n 3 "$DIR/make.log")"
  "$old" image build --vm >/dev/null 2>"$DIR/image.log" && "$new" image build --vm >/dev/null 2>>"$DIR/image.log"
  result $? 'both builds have an image for virtual machines' "$(tail -n 3 "$DIR/image.log")"
  create 1 1 || return
  first=$("$old" version | sed 's/kprov \([^ ]*\) .*/\1/')
  k create configmap kept --from-literal=a=1 >/dev/null
  KPROV=$new
  "$KPROV" upgrade cluster $NAME --dry-run -o json >"$DIR/step.log" 2>&1
  [ "$(grep -c '"action": "reimage"' "$DIR/step.log")" = 2 ]
  result $? 'a dry run tells of two machines' "$(tail -n 3 "$DIR/step.log")"
  rolls "upgrade to $NEXT" cp-1 worker-1 upgrade cluster $NAME --yes
  all_are $NEXT
  result $? "both nodes are of $NEXT and schedulable" "$(k get nodes 2>&1)"
  [ "$(k get configmap kept -o 'jsonpath={.data.a}')" = 1 ]
  result $? 'what was written is there'
  "$KPROV" upgrade cluster $NAME --yes 2>&1 | grep -q '^Nothing to do'
  result $? 'upgrading again finds nothing to do'
  rolls "rollback to $first" worker-1 cp-1 rollback cluster $NAME --yes
  all_are "$first"
  result $? "both nodes are of $first again" "$(k get nodes 2>&1)"
  [ "$(k get configmap kept -o 'jsonpath={.data.a}')" = 1 ]
  result $? 'what was written is there still'
  KPROV=$old
  gone
}

# ---- a control plane undefined behind kprov's back -------------------------------------------------------------------------------------
members() { "$KPROV" describe cluster $NAME 2>/dev/null | sed -n 's/.*etcd member \([0-9a-f]*\): healthy.*/\1/p' | sort; }
three_members() { [ "$(members | wc -l)" = 3 ]; }
run_repair() {
  create 3 0 || return
  local from gap before
  eventually 60 three_members
  result $? 'etcd has three healthy members' "$("$KPROV" describe cluster $NAME 2>&1 | grep etcd)"
  before=$(members)
  : >"$DIR/acked"
  touch "$DIR/writing"
  writer a "$DIR/writing" 0.1 &
  sleep 2
  from=$(now_ms)
  v destroy $NAME-cp-2 >/dev/null && v undefine $NAME-cp-2 >/dev/null
  result $? 'a control plane is destroyed and undefined'
  "$KPROV" repair $NAME --dry-run --settle 2s >"$DIR/step.log" 2>&1
  [ $? = 2 ] && grep -q "$NAME-cp-2.*its machine is gone" "$DIR/step.log"
  result $? 'repair --dry-run says whose machine is gone' "$(cat "$DIR/step.log")"
  kprov 'repair brings it back' repair $NAME --yes
  eventually "$READY_S" ready_nodes 3
  result $? 'three nodes are Ready' "$(k get nodes 2>&1)"
  eventually 60 three_members
  result $? 'etcd has three healthy members again' "$("$KPROV" describe cluster $NAME 2>&1 | grep etcd)"
  [ "$(comm -12 <(echo "$before") <(members) | wc -l)" = 2 ] && [ "$(comm -13 <(echo "$before") <(members) | wc -l)" = 1 ]
  result $? 'one of them is new' "$before, then $(members)"
  gap=$(longest_gap "$from")
  [ "$gap" -le "${LIFE_WRITE_GAP_MS:-5000}" ]
  result $? "the API took writes all the time (longest gap $gap ms)" "$gap ms"
  rm -f "$DIR/writing"
  wait
  nothing_lost there "$SERVER"
  for node in cp-1 cp-2 cp-3; do nothing_lost "at the API server of $node" "https://$(address $node):6443"; done
  gone
}

# ---- all of it -----------------------------------------------------------------------------------------------------------------------
for part in lb day2 upgrade repair; do
  if section $part; then run_$part; fi
done
echo "$PASSED passed, $FAILED failed, 0 skipped"
[ $FAILED = 0 ]
