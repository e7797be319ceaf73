#!/bin/bash
# The number of control planes changes under a writing client: 1 -> 3 -> 5 -> 3, a control plane is destroyed with its data behind
# kprov's back and mended, and nothing that was acknowledged is lost. Without memory for five: MEMBERS_MAX=3.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-kubectl}
CACHE=${KPROV_TEST_CACHE:-/var/cache/kprov-tests}
ETCDCTL=$(ls -d "$CACHE"/etcd-3.5*/etcdctl 2>/dev/null | head -n 1)
ETCDCTL=${ETCDCTL:-$(command -v etcdctl)}
[ "$(id -u)" = 0 ] || { echo 'SKIP: machines of this host need root'; exit 77; }
for tool in "$KUBECTL" curl "$ETCDCTL"; do command -v "$tool" >/dev/null || { echo "no $tool: make test-deps, tests/tools/fetch-clients" >&2; exit 1; }; done
DIR=$(mktemp -d /tmp/e2e-members-XXXXXX)
export KPROV_STATE_DIR=$DIR/state KPROV_LOCAL_DIR=$DIR/local HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig
NAME=e2emem
cleanup() {
  rm -f "$DIR/writing"
  nft delete table inet e2emembers 2>/dev/null
  if [ $FAILED != 0 ] && [ -n "${KEEP_LOGS:-}" ]; then
    for node in cp-1 cp-2 cp-3 cp-4 cp-5; do for part in etcd kube-apiserver kprov-vip kubelet; do "$KPROV" logs $NAME $node $part >"$KEEP_LOGS-$node-$part.log" 2>&1; done; done
    cp "$DIR"/*.log "$KEEP_LOGS" 2>/dev/null
  fi
  wait
  "$KPROV" delete cluster $NAME --yes >/dev/null 2>&1
  rm -rf "$DIR"
}
trap cleanup EXIT
cluster_yaml() { # control planes
  cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  controlPlane: {replicas: $1}
  nodePools:
  - {name: worker, replicas: 1}
  componentArgs:
    kube-controller-manager: {node-monitor-period: 500ms, node-monitor-grace-period: 5s}
    kubelet: {nodeLeaseDurationSeconds: 4, nodeStatusUpdateFrequency: 1s}
YAML
}

# ---- what is looked at ----------------------------------------------------------------------------------------------------
machine_address() { "$KPROV" get nodes --cluster $NAME 2>/dev/null | awk -v n="$NAME-$1" '$1 == n { print $4 }'; }
endpoints() { "$KPROV" get nodes --cluster $NAME 2>/dev/null | awk '$2 == "control-plane" && $5 != "off" && $4 != "off" { for (i = 1; i <= NF; i++) if ($i ~ /^10\./) printf "%shttps://%s:2379", (n++ ? "," : ""), $i }'; }
etcdctl() { timeout 10 env ETCDCTL_API=3 "$ETCDCTL" --endpoints="$(endpoints)" --cacert="$DIR/etcd-ca.crt" --cert="$DIR/etcd.crt" --key="$DIR/etcd.key" --command-timeout=5s "$@"; }
voters() { etcdctl member list 2>/dev/null | grep -c ', started, .*, false$'; }
members() { etcdctl member list 2>/dev/null | wc -l; }
voters_are() { [ "$(voters)" = "$1" ] && [ "$(members)" = "$1" ] && etcdctl endpoint health >/dev/null 2>&1; }
ready_nodes() { [ "$(k get nodes --no-headers 2>/dev/null | grep -c ' Ready')" = "$1" ] && [ "$(k get nodes --no-headers 2>/dev/null | wc -l)" = "$1" ]; }
api_servers_are() { [ "$(k get endpoints kubernetes -o 'jsonpath={.subsets[0].addresses[*].ip}' | wc -w)" = "$1" ]; }
API_SECONDS=2
healthy_cluster() { # what, control planes, from-ms
  eventually 20 voters_are "$2"
  result $? "$1: $2 healthy voting members and no other" "$(etcdctl member list 2>&1)"
  eventually 20 ready_nodes $(($2 + 1))
  result $? "$1: $(($2 + 1)) nodes Ready and no other" "$(k get nodes --no-headers 2>&1)"
  eventually 20 api_servers_are "$2"
  result $? "$1: $2 API servers behind the Service kubernetes"
  local gap
  gap=$(longest_gap "$3")
  [ "$gap" -le "${MEMBERS_GAP_MS:-5000}" ]
  result $? "$1: the API took writes all the time (longest gap $gap ms)" "$gap ms"
}
change() { # what, control planes, command...
  local what=$1 count=$2 from
  shift 2
  from=$(now_ms)
  "$@" >"$DIR/step.log" 2>&1
  result $? "$what ($(($(now_ms) - from)) ms)" "$(tail -n 5 "$DIR/step.log")"
  healthy_cluster "$what" "$count" "$from"
}

# ---- one ------------------------------------------------------------------------------------------------------------------
cluster_yaml 1
start=$(now_ms)
"$KPROV" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait 90s >"$DIR/create.log" 2>&1
result $? "a cluster of one control plane is Ready ($(($(now_ms) - start)) ms)" "$(tail -n 3 "$DIR/create.log")"
[ $FAILED = 0 ] || exit 1
split_kubeconfig "$KUBECONFIG" "$DIR"
for part in ca.crt:etcd-ca.crt healthcheck-client.crt:etcd.crt healthcheck-client.key:etcd.key; do
  "$KPROV" exec $NAME cp-1 -- cat "/etc/kubernetes/pki/etcd/${part%%:*}" >"$DIR/${part#*:}"
done
"$KPROV" plan -f "$DIR/cluster.yaml" >"$DIR/step.log" 2>&1
result $? 'plan on an unchanged cluster says that nothing is to do' "$(cat "$DIR/step.log")"
cluster_yaml 4
"$KPROV" apply -f "$DIR/cluster.yaml" --yes >"$DIR/step.log" 2>&1
[ $? = 1 ] && grep -q 'must be 1, 3, 5 or 7, not 4' "$DIR/step.log"
result $? 'four control planes are refused, with what to take' "$(cat "$DIR/step.log")"
"$KPROV" scale controlplane $NAME --replicas 2 >"$DIR/step.log" 2>&1
[ $? = 1 ] && grep -q 'must be 1, 3, 5 or 7, not 2' "$DIR/step.log"
result $? 'two are refused by scale as well' "$(cat "$DIR/step.log")"

: >"$DIR/acked"
touch "$DIR/writing"
writer a "$DIR/writing" 0.05 &
writer b "$DIR/writing" 0.05 &
# ---- three, five, three ---------------------------------------------------------------------------------------------------
cluster_yaml 3
"$KPROV" plan -f "$DIR/cluster.yaml" >"$DIR/step.log" 2>&1
[ $? = 2 ] && grep -q "etcd member $NAME-cp-3" "$DIR/step.log"
result $? 'plan names the machines and the members to come' "$(cat "$DIR/step.log")"
# Killed while the second member joins: the same command goes on from there.
timeout -s KILL 1.5 "$KPROV" apply -f "$DIR/cluster.yaml" --yes >"$DIR/step.log" 2>&1
[ $? = 137 ]
result $? 'an apply is killed on its way' "$(tail -n 3 "$DIR/step.log"; "$KPROV" get nodes --cluster $NAME)"
change '1 -> 3 by the same apply' 3 "$KPROV" apply -f "$DIR/cluster.yaml" --yes --wait 60s
if [ "${MEMBERS_MAX:-5}" -ge 5 ]; then
  change '3 -> 5 by scale' 5 "$KPROV" scale controlplane $NAME --replicas 5 --wait 60s
  change '5 -> 3 by apply' 3 "$KPROV" apply -f "$DIR/cluster.yaml" --yes --wait 60s
fi

# ---- a control plane destroyed with its data, as another tool would ---------------------------------------------------------
member_id() { etcdctl member list | awk -F', ' -v n="$NAME-$1" '$3 == n { print $1 }'; }
destroy() { # node: the machine and its disk are gone, and nothing told kprov
  "$KPROV" node stop $NAME "$1" --force 2>/dev/null
  rm -rf "$DIR"/local/*/machines/$NAME-"$1"
}
victim=cp-2
old=$(member_id $victim)
from=$(now_ms)
destroy $victim
"$KPROV" plan -f "$DIR/cluster.yaml" >"$DIR/step.log" 2>&1
[ $? = 2 ] && grep -q "create .*machine $NAME-$victim" "$DIR/step.log" && grep -q "remove .*etcd member $NAME-$victim .*gone" "$DIR/step.log"
result $? 'plan says which machine is gone, and what becomes of its member' "$(cat "$DIR/step.log")"
"$KPROV" repair $NAME --dry-run -o json --settle 1s >"$DIR/step.log" 2>"$DIR/step.err"
[ $? = 2 ] && grep -q "\"name\": \"$NAME-$victim\"" "$DIR/step.log" && grep -q '"problem": "its machine is gone"' "$DIR/step.log"
result $? 'repair says so too, as JSON' "$(cat "$DIR/step.log" "$DIR/step.err")"
"$KPROV" repair $NAME </dev/null >"$DIR/step.log" 2>&1
[ $? = 2 ] && grep -q 'pass --yes' "$DIR/step.log"
result $? 'and asks before it mends' "$(cat "$DIR/step.log")"
"$KPROV" repair $NAME --yes --wait 60s >"$DIR/step.log" 2>&1
result $? 'repair mends it' "$(tail -n 5 "$DIR/step.log")"
healthy_cluster 'a control plane destroyed, and repair' 3 "$from"
new=$(member_id $victim)
[ -n "$new" ] && [ -n "$old" ] && [ "$new" != "$old" ]
result $? 'it is a new member of etcd' "$old, then $new"

from=$(now_ms)
destroy cp-3
"$KPROV" node stop $NAME worker-1 --force 2>/dev/null
change 'apply mends a destroyed control plane and a worker that is off' 3 "$KPROV" apply -f "$DIR/cluster.yaml" --yes --wait 60s

# ---- a control plane whose etcd has lost its data: it runs, and is no member that may vote -----------------------------------
from=$(now_ms)
"$KPROV" node stop $NAME cp-1 --force 2>/dev/null
rm -rf "$DIR"/local/*/machines/$NAME-cp-1/data/etcd/*
"$KPROV" node start $NAME cp-1 2>/dev/null
sleep 3
[ "$(voters)" = 3 ] && ! etcdctl endpoint health >/dev/null 2>&1
result $? 'etcd refuses to start with an empty disk under its old id' "$(etcdctl endpoint health 2>&1)"
change 'repair replaces it' 3 "$KPROV" repair $NAME --yes --settle 2s --wait 60s
"$KPROV" repair $NAME --dry-run --settle 2s >"$DIR/step.log" 2>&1
result $? 'then nothing is to be repaired' "$(cat "$DIR/step.log")"

# ---- a worker whose kubelet says nothing any more -----------------------------------------------------------------------------
"$KPROV" exec $NAME worker-1 -- sh -c 'for p in /proc/[0-9]*; do [ "$(cat "$p/comm" 2>/dev/null)" != kubelet ] || kill -STOP "${p#/proc/}"; done'
created=$(k get node $NAME-worker-1 -o 'jsonpath={.metadata.uid}')
worker_is_silent() { [ "$(k get node $NAME-worker-1 -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = Unknown ]; }
eventually 20 worker_is_silent
sleep 2
from=$(now_ms)
"$KPROV" repair $NAME --node worker-1 --not-ready-after 1s --yes --settle 2s --wait 60s >"$DIR/step.log" 2>&1
result $? 'repair replaces a worker that is not Ready' "$(cat "$DIR/step.log")"
healthy_cluster 'a sick worker, and repair' 3 "$from"
[ "$created" != "$(k get node $NAME-worker-1 -o 'jsonpath={.metadata.uid}')" ]
result $? 'it is another Node'

# ---- a pool with protected pods --------------------------------------------------------------------------------------------
k apply -f - >/dev/null <<'YAML'
apiVersion: apps/v1
kind: Deployment
metadata: {name: guarded}
spec:
  replicas: 1
  selector: {matchLabels: {app: guarded}}
  template:
    metadata: {labels: {app: guarded}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: 'registry.kprov.dev/busybox:1.35', command: [sleep, '3600']}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: guard}
spec: {minAvailable: 1, selector: {matchLabels: {app: guarded}}}
YAML
k rollout status deployment/guarded --timeout=20s >/dev/null
guard_counts() { [ "$(k get pdb guard -o 'jsonpath={.status.currentHealthy}')" = 1 ]; }
eventually 10 guard_counts
sed 's/name: worker/name: other/' "$DIR/cluster.yaml" >"$DIR/other.yaml"
"$KPROV" apply -f "$DIR/other.yaml" --yes --wait 30s >"$DIR/step.log" 2>&1
[ $? = 1 ] && grep -q 'guarded.*protected by PodDisruptionBudget guard' "$DIR/step.log" && grep -q 'kprov scale nodepool' "$DIR/step.log" &&
  ! "$KPROV" get nodes --cluster $NAME | grep -q other-1
result $? 'a pool that still has protected pods is not removed, and nothing is made' "$(cat "$DIR/step.log")"

# ---- back to one -----------------------------------------------------------------------------------------------------------
change '3 -> 1 by scale' 1 "$KPROV" scale controlplane $NAME --replicas 1 --wait 60s
rm -f "$DIR/writing"
wait
nothing_lost there "$SERVER"

# ---- etcd's port is the cluster's own, as on clouds -----------------------------------------------------------------------------
nft -f - <<'NFT'
table inet e2emembers { chain out { type filter hook output priority 0; oifname != "lo" tcp dport 2379 drop; }; }
NFT
"$KPROV" scale nodepool $NAME worker --replicas 2 --wait 60s >"$DIR/step.log" 2>&1
result $? 'workers are scaled without a way to etcd' "$(cat "$DIR/step.log")"
eventually 20 ready_nodes 3
result $? 'the new one is Ready' "$(k get nodes --no-headers 2>&1)"
"$KPROV" scale controlplane $NAME --replicas 3 --wait 90s >"$DIR/step.log" 2>&1
result $? 'and so are control planes: the API server carries what is said to etcd' "$(cat "$DIR/step.log")"
"$KPROV" describe cluster $NAME -o json >"$DIR/step.log" 2>&1
[ "$(grep -c '"healthy": true' "$DIR/step.log")" = 3 ]
result $? 'describe tells how each member is' "$(cat "$DIR/step.log")"
"$KPROV" etcd snapshot save $NAME "$DIR/through.db" >"$DIR/step.log" 2>&1
result $? 'a snapshot is saved' "$(cat "$DIR/step.log")"
destroy cp-2
"$KPROV" repair $NAME --yes --settle 2s --wait 90s >"$DIR/step.log" 2>&1
result $? 'a control plane destroyed is made anew' "$(cat "$DIR/step.log")"
"$KPROV" scale controlplane $NAME --replicas 1 --wait 60s >"$DIR/step.log" 2>&1
result $? 'and back to one' "$(cat "$DIR/step.log")"
nft delete table inet e2emembers
[ "$(voters)" = 1 ]
result $? 'etcd has one voter' "$(voters)"

# ---- no quorum ---------------------------------------------------------------------------------------------------------------
machines() { for machine in "$DIR"/local/*/machines/*; do echo "${machine##*/"$NAME"-}"; done; }
destroy "$(machines | grep cp-)"
"$KPROV" repair $NAME --yes --settle 1s >"$DIR/step.log" 2>&1
[ $? = 1 ] && grep -q 'kprov etcd snapshot restore' "$DIR/step.log"
result $? 'without a quorum repair refuses and names the way out' "$(cat "$DIR/step.log")"
cluster_yaml 1
"$KPROV" apply -f "$DIR/cluster.yaml" --yes --wait 20s >"$DIR/step.log" 2>&1
[ $? = 1 ] && grep -q 'kprov etcd snapshot restore' "$DIR/step.log" && ! machines | grep -q cp-
result $? 'so does apply: it makes no empty etcd' "$(cat "$DIR/step.log")"
"$KPROV" delete cluster $NAME --yes >"$DIR/step.log" 2>&1
result $? 'the cluster is deleted' "$(cat "$DIR/step.log")"
[ -z "$(ls "$DIR/local" | grep -v '^lock$')" ]
result $? 'and nothing of it is left' "$(ls "$DIR/local")"
echo "$PASSED passed, $FAILED failed, 0 skipped"
[ $FAILED = 0 ]
