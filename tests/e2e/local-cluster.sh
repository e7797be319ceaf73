#!/bin/bash
# A local cluster under stress: an application behind a Service keeps answering while every single program is killed, a machine
# is powered off and on, and a lost machine's pods move. Monitor timings are set short in the cluster file.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-kubectl}
[ "$(id -u)" = 0 ] || { echo 'SKIP: machines of this host need root'; exit 77; }
command -v "$KUBECTL" >/dev/null || { echo 'SKIP: kubectl is not installed'; exit 77; }
command -v curl >/dev/null || { echo 'SKIP: curl is not installed'; exit 77; }
DIR=$(mktemp -d /tmp/e2e-cluster-XXXXXX)
export KPROV_STATE_DIR=$DIR/state KPROV_LOCAL_DIR=$DIR/local HOME=$DIR/home
export KUBECONFIG=$DIR/kubeconfig
NAME=e2ecluster
cleanup() {
    if [ $FAILED != 0 ] && [ -n "${KEEP_LOGS:-}" ]; then
        for node in cp-1 worker-1 worker-2; do "$KPROV" logs $NAME $node kubelet >"$KEEP_LOGS-$node.log" 2>&1; done
    fi
    "$KPROV" delete cluster $NAME --yes >/dev/null 2>&1
    rm -rf "$DIR"
}
trap cleanup EXIT
answers() { curl -s -m 1 "http://$1:30080/" | grep -q '^web-'; }
ready_nodes() { [ "$("$KPROV" get nodes --cluster $NAME 2>/dev/null | grep -c ' True ')" = "$1" ]; }

cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  nodePools:
  - {name: worker, replicas: 2, labels: {tier: app}}
  componentArgs:
    kube-controller-manager: {node-monitor-period: 500ms, node-monitor-grace-period: 5s}
    kubelet: {nodeLeaseDurationSeconds: 4, nodeStatusUpdateFrequency: 1s}
YAML
"$KPROV" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait 60s -o json >"$DIR/created.json" 2>"$DIR/create.log"
result $? 'kprov create cluster makes three Ready nodes' "$(tail -n 3 "$DIR/create.log")"
cat "$DIR/create.log"
[ $FAILED = 0 ] || exit 1
seconds=$(sed -n 's/.*"seconds": \([0-9]*\).*/\1/p' "$DIR/created.json" | sort -n | tail -n 1)
[ "${seconds:-99}" -lt 10 ]
result $? 'a creation with the image cached takes less than 10 s' "$seconds s"
address() { "$KPROV" get nodes --cluster $NAME 2>/dev/null | awk -v n="$NAME-$1" '$1 == n { print $4 }'; }
CP=$(address cp-1) W1=$(address worker-1) W2=$(address worker-2)

cat >"$DIR/web.yaml" <<'YAML'
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      containers:
      - name: web
        image: registry.kprov.dev/busybox:1.35
        command: [sh, -c, 'hostname > /var/www/index.html; exec httpd -f -p 80 -h /var/www']
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, nodePort: 30080}]
YAML
k apply -f "$DIR/web.yaml" >"$DIR/apply.log" 2>&1
result $? 'an application is applied' "$(cat "$DIR/apply.log")"
all_web_ready() { [ "$(k get deployment web -o jsonpath='{.status.readyReplicas}')" = 3 ]; }
eventually 20 all_web_ready
result $? 'its three replicas become ready'
for node in $CP $W1 $W2; do
    eventually 5 answers "$node"
    result $? "it answers at the node port of $node"
done

# ---- every program killed, the workload watched -----------------------------------------------------------------------
kill_program() { # node program
    # shellcheck disable=SC2016 # for the shell in the machine
    "$KPROV" exec $NAME "$1" -- sh -c 'for p in /proc/[0-9]*; do
        read -r line < $p/comm 2>/dev/null || continue
        case $(readlink $p/exe) in */'"$2"') kill -9 ${p#/proc/}; exit 0 ;; esac
    done; exit 1'
}
watch_service() { # file: one line for each request that failed
    : >"$1"
    while [ -e "$DIR/watching" ]; do
        answers "$W1" || date +%T.%N >>"$1"
        sleep 0.05
    done
}
api_ready() { k get --raw /readyz; }
for target in cp-1/etcd cp-1/kube-apiserver cp-1/kube-scheduler cp-1/kube-controller-manager cp-1/kubelet cp-1/containerd \
    worker-1/kube-proxy worker-1/kubelet worker-1/containerd; do
    node=${target%/*} program=${target#*/}
    k create configmap "kept-$program-$node" --from-literal=a=b >/dev/null 2>&1
    touch "$DIR/watching"
    watch_service "$DIR/failed" &
    watcher=$!
    kill_program "$node" "$program"
    killed=$?
    sleep 2
    eventually 20 api_ready && eventually 20 ready_nodes 3
    back=$?
    rm -f "$DIR/watching"
    wait $watcher
    result $killed "$program on $node is killed"
    result $back "$program on $node comes back by itself"
    [ ! -s "$DIR/failed" ]
    result $? "the workload answers while $program on $node is killed" "$(wc -l <"$DIR/failed") requests failed"
    [ "$(k get configmap "kept-$program-$node" -o jsonpath='{.data.a}' 2>/dev/null)" = b ]
    result $? "nothing acknowledged is lost when $program on $node is killed"
done
kill_program worker-1 kubelet
eventually 10 "$KPROV" exec $NAME worker-1 -- test -S /run/containerd/containerd.sock
k run after-kills --image=registry.kprov.dev/busybox:1.35 --restart=Never --command -- true >/dev/null
eventually 20 sh -c "[ \"\$(timeout 5 $KUBECTL get pod after-kills -o jsonpath='{.status.phase}')\" = Succeeded ]"
result $? 'a pod still starts after all that'

# ---- power ----------------------------------------------------------------------------------------------------------------
"$KPROV" node stop $NAME worker-2 --force 2>/dev/null
result $? 'a worker is cut off its power'
none_on_w2() { [ "$(k get pods -l app=web --field-selector=spec.nodeName=$NAME-worker-1,status.phase=Running -o name | wc -l)" = 3 ] && all_web_ready; }
eventually 40 none_on_w2
result $? 'its pods are replaced on the other worker' "$(k get pods -l app=web -o wide 2>&1)"
eventually 10 answers "$W1"
result $? 'and the application answers'
"$KPROV" node start $NAME worker-2 2>/dev/null && eventually 30 ready_nodes 3
result $? 'the worker is Ready again when it is powered on'
eventually 20 answers "$W2"
result $? 'and serves its node port'
"$KPROV" node stop $NAME cp-1 2>/dev/null && answers "$W1"
result $? 'the application answers while the control plane is off'
"$KPROV" node start $NAME cp-1 2>/dev/null && eventually 30 api_ready && eventually 30 ready_nodes 3
result $? 'the control plane comes back with all nodes Ready'
[ "$(k get configmap kept-etcd-cp-1 -o jsonpath='{.data.a}' 2>/dev/null)" = b ]
result $? 'and with its data'

echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
