#!/bin/bash
# Three control planes and two workers under a writing client: the API at its one address stays available through the loss of any
# machine, and no acknowledged write is lost. Gaps are measured from outside. HA_GAP_MS is the longest that passes (5000).
# PROVIDER=libvirt does it to virtual machines; local is the default. HA_FAULTS picks of "kill other pause cut worker".
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-kubectl}
[ "$(id -u)" = 0 ] || { echo 'SKIP: machines of this host need root'; exit 77; }
for tool in "$KUBECTL" curl nsenter; do command -v "$tool" >/dev/null || { echo "no $tool: make test-deps, tests/tools/fetch-clients" >&2; exit 1; }; done
DIR=$(mktemp -d /tmp/e2e-ha-XXXXXX)
export KPROV_STATE_DIR=$DIR/state KPROV_LOCAL_DIR=$DIR/local HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig
NAME=e2eha
PROVIDER=${PROVIDER:-local}
case $PROVIDER in
  local) CREATE_MS=12000 SLOW=1 GRACE_S=5 LEASE_S=4 STATUS_S=1 ;;
  # Emulated machines boot for most of a minute, and a lease of every node each second would be all they do.
  libvirt) CREATE_MS=60000 SLOW=5 GRACE_S=12 LEASE_S=12 STATUS_S=4; command -v virsh >/dev/null || { echo 'SKIP: no virsh: apt install libvirt-clients'; exit 77; } ;;
  *) echo "PROVIDER=$PROVIDER: local or libvirt" >&2; exit 2 ;;
esac
GAP_MS=${HA_GAP_MS:-5000}
FAULTS=${HA_FAULTS:-kill other pause cut worker}
[ $PROVIDER != libvirt ] || machines_weigh
keep_logs() {
  local node part
  [ $FAILED != 0 ] && [ -n "${KEEP_LOGS:-}" ] || return 0
  cp "$DIR/acked" "$KEEP_LOGS-acked"
  cp "$DIR/unacked" "$KEEP_LOGS-unacked"
  for node in cp-1 cp-2 cp-3; do for part in etcd kube-apiserver kprov-vip; do "$KPROV" logs $NAME $node $part >"$KEEP_LOGS-$node-$part.log" 2>&1; done; done
}
cleanup() {
  rm -f "$DIR/writing"
  "$KPROV" get clusters 2>/dev/null | grep -q "^$NAME " && keep_logs
  wait
  "$KPROV" delete cluster $NAME --yes >/dev/null 2>&1
  rm -rf "$DIR"
  machines_weigh_as_before
}
trap cleanup EXIT

cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  provider: $PROVIDER
  controlPlane: {replicas: 3}
  nodePools:
  - {name: worker, replicas: 2}
  componentArgs:
    kube-controller-manager: {node-monitor-period: 500ms, node-monitor-grace-period: ${GRACE_S}s}
    kubelet: {nodeLeaseDurationSeconds: $LEASE_S, nodeStatusUpdateFrequency: ${STATUS_S}s}
YAML
start=$(now_ms)
"$KPROV" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait $((180 + 30 * SLOW))s >"$DIR/create.log" 2>&1
result $? 'three control planes and two workers are Ready' "$(tail -n 3 "$DIR/create.log")"
cat "$DIR/create.log"
[ $FAILED = 0 ] || exit 1
[ $PROVIDER != libvirt ] || machines_weigh # the group may not have been there before
took=$(($(now_ms) - start))
[ $took -lt ${HA_CREATE_MS:-$CREATE_MS} ]
result $? "their creation takes less than $((${HA_CREATE_MS:-$CREATE_MS} / 1000)) s" "$took ms"

UID_=$("$KPROV" get clusters -o json | sed -n 's/.*"uid": *"\([^"]*\)".*/\1/p')
address() { "$KPROV" get nodes --cluster $NAME 2>/dev/null | awk -v n="$NAME-$1" '$1 == n { print $4 }'; }
for node in cp-1 cp-2 cp-3 worker-1 worker-2; do declare "ADDR_${node//-/_}=$(address $node)"; done
split_kubeconfig "$KUBECONFIG" "$DIR"
member_count() { k get endpoints kubernetes -o 'jsonpath={.subsets[0].addresses[*].ip}' | wc -w; }
members_are() { [ "$(member_count)" = "$1" ]; }
eventually $((20 * SLOW)) members_are 3
result $? 'the Service kubernetes has three endpoints'
for node in cp-1 cp-2 cp-3; do
  k get node $NAME-$node -o json | grep -q '"key": "node-role.kubernetes.io/control-plane"' || not_ok "$node is tainted as control plane"
done

holder() { k -n kube-system get lease kprov-vip -o 'jsonpath={.spec.holderIdentity}' | sed "s/^$NAME-//"; }
other_than() { for node in cp-1 cp-2 cp-3; do [ $node = "$1" ] || { echo $node; return; }; done; }
domain() { virsh -c "${LIBVIRT_DEFAULT_URI:-qemu:///system}" "$@" >/dev/null || not_ok "virsh $*"; }
freeze() { # node STOP|CONT: the whole machine; of a local one every process but its init
  local pid
  if [ $PROVIDER = libvirt ]; then
    if [ "$2" = STOP ]; then domain suspend "$NAME-$1"; else domain resume "$NAME-$1"; fi
    return
  fi
  read -r pid _ <"$(echo "$DIR"/local/*/machines/$NAME-"$1"/pid)"
  # shellcheck disable=SC2016 # for the shell in the machine
  nsenter -t "$pid" -m -p sh -c 'n=0; for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = 1 ] || [ $p = $$ ] || ! kill -$1 $p 2>/dev/null || n=$((n + 1)); done; [ $n -gt 5 ]' sh "$2" ||
    not_ok "processes of $1 get $2"
}
port() { local a; a=$(address "$1"); IFS=. read -r _ _ c d <<<"$a"; echo "m$((c << 8 | d))"; }
cut() { # node up|down: its cable
  if [ $PROVIDER = libvirt ]; then
    domain domif-setlink "$NAME-$1" "$(virsh -q domiflist "$NAME-$1" | awk '{print $1; exit}')" "$2"
  else
    nsenter --net="$(echo "$DIR"/local/*/netns)" ip link set "$(port "$1")" "$2"
  fi
}
ready_nodes() { [ "$(k get nodes --no-headers 2>/dev/null | grep -c ' Ready')" = "$1" ]; }
wanted() { case " $FAULTS " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
fault() { # what, command to do it, command to undo it
  local from gap
  from=$(now_ms)
  eval "$2"
  sleep 8
  gap=$(longest_gap "$from")
  [ "$gap" -le "$GAP_MS" ]
  result $? "the API takes writes through: $1 (longest gap $gap ms)" "$gap ms; not acknowledged: $(unacked "$from")"
  [ -z "$3" ] || eval "$3"
  eventually $((40 * SLOW)) ready_nodes 5
  result $? "five nodes are Ready after: $1" "$(k get nodes --no-headers 2>&1)"
  eventually $((30 * SLOW)) members_are 3
  result $? "three API servers after: $1" "$(member_count)"
}
: >"$DIR/acked"
: >"$DIR/unacked"
touch "$DIR/writing"
writer a "$DIR/writing" 0.02 &
writer b "$DIR/writing" 0.02 &
sleep 1
one=$(holder)
wanted kill && fault "kill of the machine that holds the address" "'$KPROV' node stop $NAME $one --force" "'$KPROV' node start $NAME $one"
two=$(other_than "$(holder)")
wanted other && fault "kill of a control plane that does not hold it" "'$KPROV' node stop $NAME $two --force" "'$KPROV' node start $NAME $two"
three=$(holder)
wanted pause && fault "pause of the holder" "freeze $three STOP" "freeze $three CONT"
four=$(holder)
wanted cut && fault "the holder's cable cut" "cut $four down" "cut $four up"

# ---- a lost worker --------------------------------------------------------------------------------------------------------
if wanted worker; then
k apply -f - >/dev/null <<'YAML'
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      containers:
      - {name: web, image: 'registry.kprov.dev/busybox:1.35', command: [sleep, '3600']}
YAML
timeout $((20 * SLOW)) "$KUBECTL" rollout status deployment/web --timeout=$((20 * SLOW))s >/dev/null
result $? 'an application runs on the workers'
from=$(now_ms)
"$KPROV" node stop $NAME worker-1 --force 2>/dev/null
on_the_other() { [ "$(k get pods -l app=web --field-selector=status.phase=Running -o 'jsonpath={range .items[*]}{.spec.nodeName} {.metadata.deletionTimestamp}{"\n"}{end}' | grep -c "^$NAME-worker-2 $")" = 2 ]; }
eventually $((30 * SLOW)) on_the_other
result $? 'the pods of a lost worker are replaced' "$(k get pods -o wide 2>&1)"
gap=$(longest_gap "$from")
[ "$gap" -le "$GAP_MS" ]
result $? "the API takes writes through the loss of a worker (longest gap $gap ms)" "$gap ms; not acknowledged: $(unacked "$from")"
fi

rm -f "$DIR/writing"
wait
# ---- nothing acknowledged is lost, at any of the three members -------------------------------------------------------------
for node in cp-1 cp-2 cp-3; do
  var=ADDR_${node//-/_}
  nothing_lost "at the API server of $node" "https://${!var}:6443"
done
keep_logs
"$KPROV" delete cluster $NAME --yes >/dev/null 2>&1
result $? 'the cluster is deleted'
left() { # whatever carries the cluster's name or uid
  if [ $PROVIDER = libvirt ]; then
    virsh -q list --all --name | grep "^$NAME-"
    virsh -q net-list --all --name | grep "$UID_"
    virsh -q pool-list --all --name | grep "$UID_"
  else
    ls "$DIR/local" | grep -v '^lock$'
  fi
}
[ -z "$(left)" ]
result $? 'and nothing of it is left' "$(left)"
echo "$PASSED passed, $FAILED failed, 0 skipped"
[ $FAILED = 0 ]
