#!/bin/bash
# LoadBalancer Services on a local cluster, without a cloud: an address of the pool, reached from outside the cluster, held by a node and
# moved when that node dies; the client's address, source ranges, UDP, and the address free again when the Service goes.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-kubectl}
[ "$(id -u)" = 0 ] || { echo 'SKIP: machines of this host need root'; exit 77; }
for tool in "$KUBECTL" curl nsenter python3; do command -v "$tool" >/dev/null || { echo "no $tool: make test-deps, tests/tools/fetch-clients" >&2; exit 1; }; done
DIR=$(mktemp -d /tmp/e2e-lb-XXXXXX)
export KPROV_STATE_DIR=$DIR/state KPROV_LOCAL_DIR=$DIR/local HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig
NAME=e2elb
cleanup() {
  rm -f "$DIR/asking"
  wait
  if [ -z "${KEEP:-}" ]; then
    "$KPROV" delete cluster $NAME --yes >/dev/null 2>&1
    rm -rf "$DIR"
  fi
}
trap cleanup EXIT

cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  provider: local
  nodePools:
  - {name: worker, replicas: 3}
YAML
"$KPROV" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait 120s >"$DIR/create.log" 2>&1
result $? 'a control plane and three workers are Ready' "$(tail -n 3 "$DIR/create.log")"
[ $FAILED = 0 ] || exit 1
eventually 30 sh -c "timeout 5 '$KUBECTL' -n kube-system get pods -l k8s-app=cloud-controller-manager | grep -q Running" ||
  not_ok 'the cloud-controller-manager runs' "$(k -n kube-system get pods 2>&1)"

machine_pid() { local pid _; read -r pid _ <"$(echo "$DIR"/local/*/machines/"$1"/pid)"; echo "$pid"; }
machine_address() { k get node "$1" -o 'jsonpath={.status.addresses[0].address}'; }
field() { k get service "$1" -o "jsonpath={$2}"; }
address_of() { field "$1" '.status.loadBalancer.ingress[0].ip'; }
has_address() { [ -n "$(address_of "$1")" ]; }
ask() { curl -sf -m "${2:-1}" --connect-timeout "${2:-1}" "http://$1/cgi-bin/who"; } # "NODE CLIENT"
# Whose link has it, asked of the kernels.
holders() {
  local node
  for node in $(k get nodes -o name | sed 's|^node/||'); do
    nsenter -t "$(machine_pid "$node")" -n ip -4 -o address 2>/dev/null | grep -q " $1/32 " && echo "$node"
  done
}
one_holder() { [ "$(holders "$1" | wc -l)" = 1 ]; }

# ---- a web server of what every node image has: each answer names the pod's node and the client -------------------------------------
web() { # NAME REPLICAS
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
      containers:
      - name: web
        image: registry.kprov.dev/busybox:1.35
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        command: [sh, -c]
        args:
        - |
          mkdir -p /tmp/www/cgi-bin
          cat >/tmp/www/cgi-bin/who <<'END'
          #!/bin/sh
          printf 'Content-Type: text/plain\r\n\r\n%s %s\n' "\$NODE" "\$REMOTE_ADDR"
          END
          chmod +x /tmp/www/cgi-bin/who
          exec httpd -f -p 80 -h /tmp/www
---
YAML
}
{ web web 3; web solo 1; } | k apply -f - >/dev/null
for name in web solo; do k rollout status deployment $name --timeout=15s >/dev/null || not_ok "deployment $name runs" "$(k get pods -o wide)"; done

start=$(now_ms)
k expose deployment web --type=LoadBalancer --port 80 >/dev/null
eventually 5 has_address web
took=$(($(now_ms) - start))
[ $took -lt 3000 ]
result $? 'a LoadBalancer Service has an address within 3 s' "$took ms"
IP=$(address_of web)
[[ $IP =~ \.(20[1-9]|2[1-4][0-9]|250)$ ]] && [ "$(field web '.status.loadBalancer.ingress[0].ipMode')" = VIP ]
result $? 'it is one of the machine network, told as a VIP' "$IP"
[ "$(field web '.metadata.finalizers[0]')" = service.kubernetes.io/load-balancer-cleanup ]
result $? 'the Service has the finalizer'
eventually 5 ask "$IP"
took=$(($(now_ms) - start))
result $? 'curl from the host answers'
echo "# address and answer after $took ms"
eventually 5 one_holder "$IP"
result $? 'one node holds the address' "$(holders "$IP" | tr '\n' ' ')"
! timeout 1 bash -c "exec 3<>/dev/tcp/$IP/10250" 2>/dev/null && timeout 1 bash -c "exec 3<>/dev/tcp/$(machine_address "$(holders "$IP")")/10250" 2>/dev/null
result $? 'other ports of the node are not reached by it'
[ "$(k get events -o 'jsonpath={.items[?(@.reason=="EnsuredLoadBalancer")].involvedObject.name}' | tr ' ' '\n' | grep -c '^web$')" -ge 1 ]
result $? 'an event says so'

# ---- Local: the client's address, at a node that has an endpoint ------------------------------------------------------------------
k expose deployment solo --type=LoadBalancer --port 80 --overrides '{"spec":{"externalTrafficPolicy":"Local"}}' >/dev/null
eventually 5 has_address solo
SOLO=$(address_of solo)
[ -n "$SOLO" ] && [ "$SOLO" != "$IP" ]
result $? 'another Service has another address' "$SOLO"
eventually 5 ask "$SOLO"
result $? 'it answers'
read -r node client <<<"$(ask "$SOLO")"
client=${client#[[]::ffff:} client=${client%]} # httpd writes an IPv4 client of its IPv6 socket so
eventually 3 one_holder "$SOLO"
[ "$(holders "$SOLO")" = "$node" ] && [ -n "$node" ]
result $? 'with externalTrafficPolicy Local a node with an endpoint holds it' "$(holders "$SOLO") holds, $node answers"
own=$(ip -4 route get "$SOLO" | sed -n 's/.* src \([0-9.]*\).*/\1/p')
[ "$client" = "$own" ]
result $? "and the pod sees the client's address" "$client, not $own"
health=$(field solo '.spec.healthCheckNodePort')
status_of() { curl -s -m 1 -o /dev/null -w '%{http_code}' "http://$(machine_address "$1"):$health/healthz"; }
elsewhere=$(k get pods -l app=web -o 'jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}' | grep -v "^$node\$" | head -n 1)
[ "$(status_of "$node") $(status_of "$elsewhere")" = '200 503' ]
result $? 'its health check is well on that node and not on another' "port $health: $(status_of "$node") on $node, $(status_of "$elsewhere") on $elsewhere"

# ---- source ranges -----------------------------------------------------------------------------------------------------------------
k patch service solo --type merge -p '{"spec":{"loadBalancerSourceRanges":["203.0.113.0/24"]}}' >/dev/null
refused() { ! ask "$SOLO" 0.3; }
eventually 5 refused
result $? 'source ranges refuse others'
k patch service solo --type merge -p "{\"spec\":{\"loadBalancerSourceRanges\":[\"203.0.113.0/24\",\"$own/32\"]}}" >/dev/null
eventually 5 ask "$SOLO" 0.3
result $? 'and let those in whom they name'

# ---- UDP: the cluster's DNS from outside ---------------------------------------------------------------------------------------------
cat <<YAML | k apply -f - >/dev/null
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: kube-system}
spec:
  type: LoadBalancer
  loadBalancerClass: kprov.dev/vip
  selector: {k8s-app: kube-dns}
  ports: [{name: dns, port: 53, protocol: UDP, targetPort: 53}]
YAML
dns_address() { k -n kube-system get service dns -o 'jsonpath={.status.loadBalancer.ingress[0].ip}'; }
named() { [ -n "$(dns_address)" ]; }
eventually 5 named
lookup() {
  timeout 3 python3 - "$(dns_address)" <<'PY'
import socket, struct, sys
name = b"".join(bytes([len(p)]) + p for p in b"kubernetes.default.svc.cluster.local".split(b".")) + b"\0"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
s.sendto(struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + name + struct.pack(">HH", 1, 1), (sys.argv[1], 53))
answer = s.recv(512)
sys.exit(0 if struct.unpack(">H", answer[6:8])[0] == 1 else 1)
PY
}
eventually 6 lookup
result $? 'UDP: a name is looked up from outside'

# ---- the API server is away for a while -----------------------------------------------------------------------------------------------
signal_api() { # shellcheck disable=SC2016 # for the shell in the machine
  nsenter -t "$(machine_pid $NAME-cp-1)" -m -p sh -c 'kill -$1 $(pidof kube-apiserver)' sh "$1"; }
asking() { # SECONDS COMMAND...: the longest time without an answer in ms, from the command on
  local seconds=$1 from
  shift
  : >"$DIR/answers"
  touch "$DIR/asking"
  while [ -e "$DIR/asking" ]; do
    ask "$IP" 0.2 >/dev/null && now_ms >>"$DIR/answers"
    sleep 0.02
  done &
  sleep 1
  from=$(now_ms)
  "$@"
  sleep "$seconds"
  rm -f "$DIR/asking"
  wait $!
  awk -v from="$from" -v now="$(now_ms)" 'BEGIN { last = from } $1 >= from { if ($1 - last > gap) gap = $1 - last; last = $1 } END { if (now - last > gap) gap = now - last; print gap + 0 }' "$DIR/answers"
}
gap=$(asking 4 signal_api STOP)
signal_api CONT
[ "$gap" -le 1000 ]
result $? 'an API server that is away takes no address away' "$gap ms"
eventually 10 k get --raw /readyz
sleep 2 # a node that renews its lease later than the others finds its address held
eventually 8 one_holder "$IP"
result $? 'and when it is back one node holds it' "$(holders "$IP" | tr '\n' ' ')"

# ---- the holder dies -----------------------------------------------------------------------------------------------------------------
victim=$(holders "$IP")
gap=$(asking 5 kill -9 "$(machine_pid "$victim")")
echo "# longest time without an answer: $gap ms"
[ "$gap" -le "${LB_GAP_MS:-2000}" ]
result $? 'with the holder killed it answers again within 2 s' "$gap ms"
[ "$(holders "$IP")" != "$victim" ] && one_holder "$IP"
result $? 'another node holds the address' "$(holders "$IP")"

# ---- deletion ----------------------------------------------------------------------------------------------------------------------
k delete service web --timeout=5s >/dev/null
result $? 'the Service goes'
nobody() { [ -z "$(holders "$IP")" ]; }
eventually 5 nobody
result $? 'and nobody holds its address any more' "$(holders "$IP")"
k expose deployment web --name=again --type=LoadBalancer --port 80 --load-balancer-ip="$IP" >/dev/null
again() { [ "$(address_of again)" = "$IP" ]; }
eventually 5 again
result $? 'which another may ask for' "$(address_of again)"
k expose deployment web --name=third --type=LoadBalancer --port 80 --load-balancer-ip="$IP" >/dev/null
told() { k get events -o 'jsonpath={range .items[*]}{.involvedObject.name} {.message}{"\n"}{end}' | grep -q '^third Error syncing load balancer: .*belongs to Service default/again'; }
eventually 5 told
result $? 'a third one is told whose it is'
k patch service again --type merge -p '{"spec":{"type":"ClusterIP"}}' >/dev/null
freed() { [ -z "$(address_of again)$(field again '.metadata.finalizers')" ]; }
eventually 5 freed
result $? 'a Service that becomes a ClusterIP gives it back' "$(address_of again) $(field again '.metadata.finalizers')"

echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
