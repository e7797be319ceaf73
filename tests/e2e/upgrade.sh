#!/bin/bash
# Three control planes and two workers go from one build to the next, back, and to an image that does not work, while an application
# answers requests and the API takes writes. UPGRADE_GAP_MS is the longest time without an acknowledged write that passes (5000).
#
# UPGRADE_BY=upgrade goes there by kprov upgrade cluster instead of kprov apply with another kubernetesVersion in the file.
#
# The rule for requests: a new connection each, to the NodePort of a node that is not cordoned, over all nodes in turn. A request that
# fails on a node that is cordoned by the time it failed may be made once more on another one, which has to answer. Nothing else may fail.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
BUILD=${BUILD:-build}
NEXT=v1.36.99
OLD_KPROV=$PWD/$BUILD/bin/kprov NEW_KPROV=$PWD/$BUILD/bin-next/kprov
KUBECTL=${KUBECTL:-kubectl}
IMAGES=${KPROV_IMAGE_DIR:-/var/lib/kprov/images}
[ "$(id -u)" = 0 ] || { echo 'SKIP: machines of this host need root'; exit 77; }
for tool in "$KUBECTL" curl make; do command -v "$tool" >/dev/null || { echo "no $tool: make test-deps, tests/tools/fetch-clients" >&2; exit 1; }; done
DIR=$(mktemp -d /tmp/e2e-upgrade-XXXXXX)
export KPROV_STATE_DIR=$DIR/state KPROV_LOCAL_DIR=$DIR/local HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig
NAME=e2eup
BROKEN=node-0000000000bad000
GAP_MS=${UPGRADE_GAP_MS:-5000}
cleanup() {
  rm -f "$DIR/running"
  if [ $FAILED != 0 ] && [ -n "${KEEP_LOGS:-}" ]; then
    cp "$DIR"/*.log "$DIR/failures" "$KEEP_LOGS" 2>/dev/null
    for node in cp-1 cp-2 cp-3 worker-1 worker-2; do for part in kubelet containerd; do "$NEW_KPROV" logs $NAME $node $part >"$KEEP_LOGS/$node-$part.log" 2>&1; done; done
  fi
  wait
  "$NEW_KPROV" delete cluster $NAME --yes >/dev/null 2>&1
  rm -rf "$DIR" "${IMAGES:?}/$BROKEN"
}
trap cleanup EXIT

# ---- two builds of different versions ------------------------------------------------------------------------------------
if [ -z "${UPGRADE_BUILT:-}" ]; then
  make -s BUILD="$BUILD" CC="${CC:-gcc}" BIN="$BUILD/bin-next" KUBERNETES_VERSION=$NEXT all >"$DIR/make.log" 2>&1 || { tail -n 5 "$DIR/make.log" >&2; exit 1; }
fi
FIRST=$("$OLD_KPROV" version | sed 's/kprov \([^ ]*\) .*/\1/')
[ "$("$NEW_KPROV" version)" = "kprov $NEXT (Kubernetes $NEXT)" ]
result $? 'a second build has another version' "$("$NEW_KPROV" version)"
OLD_IMAGE=$("$OLD_KPROV" image build 2>"$DIR/image.log") && NEW_IMAGE=$("$NEW_KPROV" image build 2>>"$DIR/image.log")
result $? 'both have a node image' "$(tail -n 3 "$DIR/image.log")"
[ $FAILED = 0 ] || exit 1

# ---- the cluster and its load -----------------------------------------------------------------------------------------------
cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  controlPlane: {replicas: 3}
  nodePools:
  - {name: worker, replicas: 2}
  componentArgs:
    kubelet: {nodeLeaseDurationSeconds: 4, nodeStatusUpdateFrequency: 1s}
YAML
"$OLD_KPROV" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait 90s >"$DIR/create.log" 2>&1
result $? "three control planes and two workers of $FIRST are Ready" "$(tail -n 3 "$DIR/create.log")"
[ $FAILED = 0 ] || exit 1
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
      terminationGracePeriodSeconds: 10
      containers:
      - name: web
        image: registry.kprov.dev/busybox:1.35
        command: [sh, -c, 'trap "exit 0" TERM; mkdir -p /www; hostname > /www/index.html; httpd -f -p 80 -h /www & wait']
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
        lifecycle: {preStop: {exec: {command: [sleep, '2']}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 80}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec:
  minAvailable: 1
  selector: {matchLabels: {app: web}}
YAML
k rollout status deployment/web --timeout=30s >/dev/null
result $? 'an application with two replicas and a budget runs'
PORT=$(k get service web -o 'jsonpath={.spec.ports[0].nodePort}')
split_kubeconfig "$KUBECONFIG" "$DIR"
"$OLD_KPROV" get nodes --cluster $NAME 2>/dev/null | awk 'NR > 1 { print $1, $4 }' >"$DIR/nodes"

# Which nodes are cordoned, as a load balancer would know: "name name". Rewritten whole.
watcher() {
  while [ -e "$DIR/running" ]; do
    if timeout 2 "$KUBECTL" get nodes -o 'jsonpath={range .items[?(@.spec.unschedulable==true)]}{.metadata.name}{"\n"}{end}' >"$DIR/cordoned.new" 2>/dev/null; then
      mv "$DIR/cordoned.new" "$DIR/cordoned"
    fi
    sleep 0.2
  done
}
cordoned() { grep -qx "$1" "$DIR/cordoned"; }
is_cordoned_now() { [ "$(timeout 5 "$KUBECTL" get node "$1" -o 'jsonpath={.spec.unschedulable}' 2>/dev/null)" = true ]; }
ask() { # address: a pod's name; else what was wrong in $wrong
  wrong=$(curl -sS -m 2 --connect-timeout 1 -w '(status %{http_code}, %{size_header} + %{size_download} bytes)' "http://$1:$PORT/" 2>&1 | tr '\n' ' ')
  case $wrong in web-*) return 0 ;; *) return 1 ;; esac
}
client() {
  local node address other wrong
  while [ -e "$DIR/running" ]; do
    while read -r node address <&3 && [ -e "$DIR/running" ]; do
      cordoned "$node" && continue
      if ask "$address"; then
        echo "$(now_ms) $node" >>"$DIR/answered"
      elif is_cordoned_now "$node"; then
        echo "$(now_ms) $node" >>"$DIR/reset"
        other=$(awk -v not="$node" '$1 != not { print $2; exit }' "$DIR/nodes")
        ask "$other" || echo "$(now_ms) $node and then $other: $wrong" >>"$DIR/failures"
      else
        echo "$(now_ms) $node: $wrong" >>"$DIR/failures"
      fi
      sleep 0.01
    done 3<"$DIR/nodes"
  done
}
since() { awk -v from="$2" '$1 >= from' "$DIR/$1" | wc -l; }
for file in cordoned answered reset failures acked; do : >"$DIR/$file"; done
touch "$DIR/running"
watcher &
client &
writer up "$DIR/running" 0.02 &
serves() { # what, from-ms
  local gap
  [ -z "${KEEP_LOGS:-}" ] || echo "$2 $(now_ms) $1" >>"$KEEP_LOGS/times"
  gap=$(longest_gap "$2")
  [ "$gap" -le "$GAP_MS" ]
  result $? "$1: the API takes writes (longest gap $gap ms)" "$gap ms"
  [ "$(since failures "$2")" = 0 ] && [ "$(since answered "$2")" -gt 20 ]
  result $? "$1: no request failed ($(since answered "$2") answered, $(since reset "$2") made again after a reset on a drained node)" "$(since failures "$2") did: $(tail -n 3 "$DIR/failures" | tr '\n' ';')"
}
all_run() { # version
  [ "$(k get nodes -o 'jsonpath={range .items[*]}{.status.nodeInfo.kubeletVersion} {.spec.unschedulable}{"\n"}{end}' | grep -c "^$1 $")" = 5 ]
}
sleep 1

# ---- there --------------------------------------------------------------------------------------------------------------------
"$NEW_KPROV" upgrade cluster $NAME --version v9.9.9 --yes >"$DIR/refused.log" 2>&1
[ $? = 1 ] && grep -q "this kprov installs $NEXT, not v9.9.9" "$DIR/refused.log"
result $? 'a version that this kprov cannot install is refused' "$(cat "$DIR/refused.log")"
"$NEW_KPROV" upgrade cluster $NAME --dry-run -o json >"$DIR/dry.log" 2>&1
[ "$(grep -c '"action": "reimage"' "$DIR/dry.log")" = 5 ]
result $? 'a dry run tells of five machines' "$(tail -n 3 "$DIR/dry.log")"
"$NEW_KPROV" plan -f "$DIR/cluster.yaml" >"$DIR/plan.log" 2>&1
result $? 'a file that names no version leaves the cluster at the one it has' "$(cat "$DIR/plan.log")"
sed "s/^spec:/&\n  kubernetesVersion: $NEXT/" "$DIR/cluster.yaml" >"$DIR/next.yaml"
"$NEW_KPROV" plan -f "$DIR/next.yaml" -o json >"$DIR/plan.log" 2>&1
[ $? = 2 ] && [ "$(grep -c '"action": "restart"' "$DIR/plan.log")" = 5 ]
result $? 'with the next version in the file, plan tells of five machines to restart' "$(cat "$DIR/plan.log")"
"$OLD_KPROV" plan -f "$DIR/next.yaml" 2>&1 | grep -q "\"$NEXT\" cannot be installed: this kprov installs $FIRST"
result $? 'but a kprov that cannot install it refuses'
from=$(now_ms)
case ${UPGRADE_BY:-apply} in
apply) timeout 280 "$NEW_KPROV" apply -f "$DIR/next.yaml" --yes >"$DIR/upgrade.log" 2>&1 ;;
*) timeout 280 "$NEW_KPROV" upgrade cluster $NAME --yes >"$DIR/upgrade.log" 2>&1 ;;
esac
result $? "${UPGRADE_BY:-apply} to $NEXT ($((($(now_ms) - from) / 1000)) s)" "$(tail -n 5 "$DIR/upgrade.log")"
cat "$DIR/upgrade.log"
all_run $NEXT
result $? "all nodes are of $NEXT and schedulable" "$(k get nodes 2>&1)"
has_image() { k -n kube-system get pods -l tier=control-plane -o 'jsonpath={.items[*].spec.containers[0].image}' | tr ' ' '\n' | grep -c ":$1$"; }
[ "$(has_image $NEXT)" = 15 ]
result $? 'and so are all static pods' "$(has_image $NEXT)"
serves upgrade "$from"
"$NEW_KPROV" upgrade cluster $NAME --yes 2>&1 | grep -q '^Nothing to do'
result $? 'upgrading again finds nothing to do'
"$NEW_KPROV" plan -f "$DIR/next.yaml" >"$DIR/plan.log" 2>&1
result $? 'and the file of that version is what the cluster is' "$(cat "$DIR/plan.log")"
"$OLD_KPROV" upgrade cluster $NAME --yes 2>&1 | grep -q 'is a downgrade: kprov rollback cluster'
result $? 'a downgrade is refused'

# ---- and back -----------------------------------------------------------------------------------------------------------------
from=$(now_ms)
"$NEW_KPROV" rollback cluster $NAME --yes >"$DIR/rollback.log" 2>&1
result $? "rollback to $FIRST ($((($(now_ms) - from) / 1000)) s)" "$(tail -n 5 "$DIR/rollback.log")"
all_run "$FIRST"
result $? "all nodes are of $FIRST again" "$(k get nodes 2>&1)"
serves rollback "$from"

# ---- an image that does not work --------------------------------------------------------------------------------------------------
cp -al "$IMAGES/$NEW_IMAGE" "$IMAGES/$BROKEN"
rm "$IMAGES/$BROKEN/rootfs/usr/lib/kprov/bin/kubelet"
printf '#!/bin/sh\nexit 1\n' >"$IMAGES/$BROKEN/rootfs/usr/lib/kprov/bin/kubelet"
chmod 755 "$IMAGES/$BROKEN/rootfs/usr/lib/kprov/bin/kubelet"
from=$(now_ms)
"$NEW_KPROV" upgrade cluster $NAME --image $BROKEN --machine-timeout 8s --yes >"$DIR/broken.log" 2>&1
[ $? = 1 ] && grep -q 'stopped at .*: 0 of 5 machines' "$DIR/broken.log" && grep -q "go back: kprov rollback cluster $NAME" "$DIR/broken.log"
result $? 'an image whose kubelet does not start stops the roll-out at the first machine, which says what to do' "$(tail -n 5 "$DIR/broken.log")"
tail -n 5 "$DIR/broken.log"
[ "$(cat "$DIR"/local/*/machines/*/machine | grep -c "^image=$BROKEN")" = 1 ]
result $? 'one machine has it' "$(cat "$DIR"/local/*/machines/*/machine | grep '^image')"
"$NEW_KPROV" image prune >/dev/null 2>&1
[ -d "$IMAGES/$BROKEN" ] && [ -d "$IMAGES/$OLD_IMAGE" ]
result $? 'pruning keeps the images of the history and of machines'
serves 'stopped roll-out' "$from"
from=$(now_ms)
"$NEW_KPROV" rollback cluster $NAME --yes >"$DIR/mend.log" 2>&1
result $? "rollback mends it ($((($(now_ms) - from) / 1000)) s)" "$(tail -n 5 "$DIR/mend.log")"
all_run "$FIRST"
result $? 'five nodes are Ready again' "$(k get nodes 2>&1)"
serves mending "$from"

rm -f "$DIR/running"
wait
# ---- nothing acknowledged is lost, at any of the three members -------------------------------------------------------------------
while read -r node address; do
  case $node in *-cp-*) ;; *) continue ;; esac
  nothing_lost "at the API server of $node" "https://$address:6443"
done <"$DIR/nodes"
echo "$PASSED passed, $FAILED failed, 0 skipped"
[ $FAILED = 0 ]
