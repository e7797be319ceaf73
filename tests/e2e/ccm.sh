#!/bin/bash
# The shipped cloud-controller-manager between a real API server and Hetzner Cloud's API as tests/support/hetzner.py has it: Nodes get what the cloud
# knows, are tainted while their server is off and deleted when it is gone, never for an error; Services get balancers, damage is mended, nothing is left.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
case $BUILD in /*) ;; *) BUILD=$PWD/$BUILD ;; esac
[ "$(id -u)" = 0 ] || { echo 'SKIP: a network of its own needs root'; exit 77; }
if [ -z "${CCM_INSIDE:-}" ]; then
  export BUILD CCM_INSIDE=1
  exec unshare --net -- sh -c 'ip link set lo up && exec "$0"' tests/e2e/ccm.sh
fi
. tests/e2e/checks.sh
. tests/support/hetzner.sh
. tests/support/apiserver.sh
KPROV=$BUILD/bin/kprov KUBECTL=${KUBECTL:-kubectl}
for tool in "$KUBECTL" curl openssl; do command -v "$tool" >/dev/null || { echo "no $tool: make test-deps, tests/tools/fetch-clients" >&2; exit 1; }; done
DIR=$(mktemp -d /tmp/e2e-ccm-XXXXXX)
export KPROV_STATE_DIR=$DIR/state HOME=$DIR/home KPROV_IMAGE_DIR=$DIR/images
NAME=e2eccm IMAGE=node-0123456789abcdef ccm_pid=
mkdir -p "$HOME" "$DIR/images/$IMAGE/vm" "$DIR/images/$IMAGE/rootfs/usr/lib/kprov"
"$KPROV" version | grep -oE 'v1\.[0-9]+\.[0-9]+' | head -n 1 >"$DIR/images/$IMAGE/rootfs/usr/lib/kprov/version"
touch "$DIR/images/$IMAGE/vm/root.erofs"
cleanup() {
  [ -z "$ccm_pid" ] || { kill "$ccm_pid" && wait "$ccm_pid"; } 2>/dev/null
  apiserver_stop
  hetzner_stop
  [ -n "${KEEP:-}" ] || rm -rf "$DIR"
}
trap cleanup EXIT
hetzner_start || { echo 'SKIP: no python3'; exit 77; }
cloud() { curl -s -m 10 -H "Authorization: Bearer $HCLOUD_TOKEN" "$HCLOUD_ENDPOINT/$1" "${@:2}"; }
fake() { curl -s -m 10 -d "$2" "$hetzner_url/_fake/$1"; }
apiserver_certificates
apiserver_start 1
fake image "{\"labels\":{\"kprov-image\":\"$IMAGE\"}}" >/dev/null
cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  provider: hetzner
  image: $IMAGE
  controlPlane: {replicas: 1, machine: cx32}
  nodePools:
  - {name: worker, replicas: 2}
  hetzner: {zones: [fsn1]}
YAML
# The servers never boot here: creation ends with that.
timeout 60 "$KPROV" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$DIR/kubeconfig" --wait 1s >"$DIR/create.log" 2>&1
UID_OF_CLUSTER=$(sed -n 's/.*"uid": "\([^"]*\)".*/\1/p' "$DIR/state/$NAME/cluster.json" | head -n 1)
W1=$NAME-worker-1 W2=$NAME-worker-2
server_id() {
  cloud servers | python3 -c 'import json, sys
print(next((s["id"] for s in json.load(sys.stdin)["servers"] if sys.argv[1] in s["labels"].values()), ""))' "$1"; }
[ -n "$UID_OF_CLUSTER" ] && [ -n "$(server_id $W1)" ] && [ -n "$(server_id $W2)" ]
[ -n "$UID_OF_CLUSTER" ] && [ -n "$(server_id $W1)" ] && [ -n "$(server_id $W2)" ]
result $? 'the cluster has its servers' "$(tail -n 3 "$DIR/create.log")"
apiserver_wait 1 && [ $FAILED = 0 ] || exit 1
export KUBECONFIG=$DIR/1/admin.conf

# ---- the manager, with its own rights
cat <<'YAML' | k apply -f - >/dev/null
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: ccm}
rules:
- {apiGroups: [''], resources: [services], verbs: [get, list, watch, patch, update]}
- {apiGroups: [''], resources: [services/status], verbs: [patch, update]}
- {apiGroups: [''], resources: [nodes], verbs: [get, list, watch, patch, update, delete]}
- {apiGroups: [''], resources: [nodes/status], verbs: [patch]}
- {apiGroups: ['', events.k8s.io], resources: [events], verbs: [create, patch, update]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create, get, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: ccm}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ccm}
subjects: [{kind: ServiceAccount, name: cloud-controller-manager, namespace: kube-system}]
YAML
mkdir -m 0700 "$DIR/cloud"
printf '%s' "$HCLOUD_TOKEN" >"$DIR/cloud/credentials"
printf '{"clusterUID": "%s", "clusterName": "%s", "endpoint": "%s", "credentialsFile": "credentials"}' "$UID_OF_CLUSTER" $NAME "$HCLOUD_ENDPOINT" >"$DIR/cloud/cloud.conf"
chmod 0400 "$DIR"/cloud/*
env -u HCLOUD_TOKEN -u HCLOUD_ENDPOINT "$BUILD/bin/cloud-controller-manager" --kubeconfig "$DIR/1/ccm.conf" --cloud-provider hetzner --cloud-config "$DIR/cloud/cloud.conf" \
  --cluster-cidr 10.244.0.0/16 --node-monitor-period 500ms --route-reconciliation-period 500ms --service-resync-period 1s --node-status-update-frequency 1s >"$DIR/ccm.log" 2>&1 &
ccm_pid=$!
healthy() { [ "$(curl -s -m 1 http://127.0.0.1:10258/healthz)" = ok ]; }
eventually 10 healthy
result $? 'the manager is healthy' "$(tail -n 3 "$DIR/ccm.log")"
leads() { [ -n "$(k -n kube-system get lease cloud-controller-manager -o 'jsonpath={.spec.holderIdentity}')" ]; }
eventually 10 leads
result $? 'and leads'

# ---- nodes, as kubelets register them
register() { # NAME N
  cat <<YAML | k create -f - >/dev/null
apiVersion: v1
kind: Node
metadata: {name: $1}
spec:
  podCIDR: 10.244.$2.0/24
  podCIDRs: [10.244.$2.0/24]
  taints: [{key: node.cloudprovider.kubernetes.io/uninitialized, value: 'true', effect: NoSchedule}]
YAML
  ready "$1" True
}
ready() { k patch node "$1" --subresource status --type merge -p "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"$2\",\"reason\":\"Test\"}]}}" >/dev/null; }
of() { k get node "$1" -o "jsonpath=$2"; }
register $W1 1
register $W2 2
initialised() { ! of "$1" '{.spec.taints[*].key}' | grep -q uninitialized; }
eventually 10 initialised $W1 && eventually 10 initialised $W2
result $? 'new nodes lose the taint' "$(tail -n 3 "$DIR/ccm.log")"
is "hcloud://$(server_id $W1)" "$(of $W1 '{.spec.providerID}')" 'they have their provider ID'
labels=$(of $W1 '{.metadata.labels.node\.kubernetes\.io/instance-type} {.metadata.labels.topology\.kubernetes\.io/region} {.metadata.labels.topology\.kubernetes\.io/zone}')
[[ $labels =~ ^[a-z]+[0-9]+\ [a-z0-9-]+\ [a-z0-9-]+$ ]]
result $? "size, region and zone: $labels"
of $W1 '{.status.addresses[*].type}' | grep -q 'InternalIP.*ExternalIP.*Hostname'
result $? 'and their addresses' "$(of $W1 '{.status.addresses}')"
routes() { cloud networks | grep -oE '"destination": "10\.244\.[0-9]+\.0/24"' | sort | tr -dc '0-9./\n' | tr '\n' ' '; }
routed() { [ "$(routes)" = '10.244.1.0/24 10.244.2.0/24 ' ]; }
eventually 10 routed
result $? 'the network has a route to the pods of each' "$(routes)"
available() { [ "$(of $W1 '{.status.conditions[?(@.type=="NetworkUnavailable")].reason}')" = RouteCreated ]; }
eventually 5 available
result $? 'and the nodes say so'

# ---- a Service
k create service loadbalancer web --tcp=80:80 >/dev/null
address_of() { k get service web -o 'jsonpath={.status.loadBalancer.ingress[0].ip}'; }
has_address() { [ -n "$(address_of)" ]; }
eventually 20 has_address
result $? 'a Service gets an address' "$(tail -n 3 "$DIR/ccm.log")"
balancer() { # FILTER: of the Service's balancer
  cloud load_balancers | python3 -c 'import json, sys
lbs = [b for b in json.load(sys.stdin)["load_balancers"] if b["name"].find("svc-") >= 0 or any("svc-" in str(v) for v in b["labels"].values())]
b = lbs[0] if lbs else None
print(len(lbs) if sys.argv[1] == "n" else eval(sys.argv[1]) if b else "")' "$1"; }
is 1 "$(balancer n)" 'by one balancer'
nodeport=$(k get service web -o 'jsonpath={.spec.ports[0].nodePort}')
listens() { [ "$(balancer '" ".join("%s:%s" % (s["listen_port"], s["destination_port"]) for s in b["services"])')" = "80:$nodeport" ]; }
eventually 5 listens
result $? 'with the port of the Service and its node port' "$(balancer 'b["services"]')"
targets() { [ "$(balancer 'len(b["targets"])')" = "$1" ]; }
eventually 5 targets 2
result $? 'and both nodes behind it' "$(balancer 'b["targets"]')"
is 'VIP' "$(k get service web -o 'jsonpath={.status.loadBalancer.ingress[0].ipMode}')" 'the mode is VIP'
cloud "load_balancers/$(balancer 'b["id"]')/actions/delete_service" -X POST -H 'Content-Type: application/json' -d '{"listen_port": 80}' >/dev/null
eventually 10 listens
result $? 'a listener that somebody deleted comes back'
fake fault '{"match": "/load_balancers", "kind": "status", "status": 503, "code": "unavailable", "times": 6}' >/dev/null
k patch service web --type merge -p '{"spec":{"ports":[{"name":"80-80","port":8080,"targetPort":80}]}}' >/dev/null
changed() { [ "$(balancer '" ".join(str(s["listen_port"]) for s in b["services"])')" = 8080 ] && [ "$(balancer n)" = 1 ]; }
eventually 30 changed
result $? 'another port, through a cloud that fails' "$(tail -n 3 "$DIR/ccm.log")"
fake no-faults '{}' >/dev/null

# ---- servers off, failing, gone
power() { cloud "servers/$(server_id "$1")/actions/$2" -X POST -H 'Content-Type: application/json' -d '{}' >/dev/null; }
tainted() { of $W1 '{.spec.taints[*].key}' | grep -q node.cloudprovider.kubernetes.io/shutdown; }
power $W1 poweroff
ready $W1 Unknown
eventually 10 tainted
result $? 'a server that is off taints its node'
eventually 5 targets 1
result $? 'and its node gets no more clients' "$(balancer 'b["targets"]')"
power $W1 poweron
ready $W1 True
untainted() { ! tainted; }
eventually 10 untainted
result $? 'until it is back'
ready $W1 Unknown
fake fault '{"match": "/servers", "kind": "status", "status": 500, "code": "server_error", "times": 40}' >/dev/null
sleep 4
k get node $W1 >/dev/null
result $? 'a cloud that answers errors deletes no node'
fake no-faults '{}' >/dev/null
cloud "servers/$(server_id $W1)" -X DELETE >/dev/null
gone() { ! k get node $W1 >/dev/null 2>&1 && k get node $W2 >/dev/null; }
eventually 20 gone
result $? 'a server that is gone takes its node along' "$(tail -n 3 "$DIR/ccm.log")"
unrouted() { [ "$(routes)" = '10.244.2.0/24 ' ]; }
eventually 10 unrouted
result $? 'and its route' "$(routes)"

# ---- the end
reasons=$(k get events -A -o 'jsonpath={.items[*].reason}')
for reason in Synced EnsuringLoadBalancer EnsuredLoadBalancer UpdatedLoadBalancer DeletingNode; do grep -q "$reason" <<<"$reasons" || not_ok "an event $reason" "$reasons"; done
k delete service web --timeout=20s >/dev/null
result $? 'the Service goes'
is 0 "$(balancer n)" 'and its balancer with it'
metrics=$(curl -s -m 2 http://127.0.0.1:10258/metrics)
for metric in node_controller_cloud_provider_taint_removal_delay_seconds_count service_controller_loadbalancer_sync_total route_controller_route_sync_total cloudprovider_hetzner_api_request_duration_seconds_count; do
  grep -q "^$metric" <<<"$metrics" || not_ok "metric $metric" "$(grep -c . <<<"$metrics") lines"
done
! grep -q "$HCLOUD_TOKEN" "$DIR/ccm.log" && ! tr '\0' '\n' <"/proc/$ccm_pid/cmdline" | grep -q "$HCLOUD_TOKEN"
result $? 'the token is in no log and no argument'
echo "# memory of the manager: $(awk '/^VmRSS/ { print $2 }' "/proc/$ccm_pid/status") kB"
kill "$ccm_pid" && wait "$ccm_pid"
result $? 'the manager ends when it is asked to' "$(tail -n 2 "$DIR/ccm.log")"
ccm_pid=
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
