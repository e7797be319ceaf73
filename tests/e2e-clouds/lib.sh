# A cluster's life on a cloud with bodies: sourced by the scripts of this folder, which say how their cloud does a thing by hand:
#   cloud_off, cloud_on, cloud_remove MACHINE    as in the cloud's console
#   cloud_balancers                              how many there are
#   cloud_left                                   prints what the API still has of the cluster $DIR/uid
# shellcheck shell=bash
api_answers() { timeout 3 "$KUBECTL" get --raw /readyz; }
nodes() { k get nodes --no-headers 2>/dev/null | awk '{ print $1 ":" $2 }' | sort | tr '\n' ' '; }
nodes_are() { [ "$(nodes)" = "$1" ]; }
node_says() { k get node "$NAME-$1" -o "jsonpath={$2}"; }
has_taint() { k get node "$NAME-$1" -o 'jsonpath={.spec.taints[*].key}' | grep -q "$2"; }
has_no_taint() { local said; said=$(k get node "$NAME-$1" -o 'jsonpath={.spec.taints[*].key}') && ! grep -q "$2" <<<"$said"; }
node_is_gone() { k get node "$NAME-$1" 2>&1 | grep -q NotFound; }
ingress() { k get service web -o 'jsonpath={.status.loadBalancer.ingress[0].hostname}{.status.loadBalancer.ingress[0].ip}'; }
has_ingress() { [ -n "$(ingress)" ]; }
timed() { # WHAT COMMAND...: a check whose text has its time
  local start what=$1
  shift
  start=$(now_ms)
  "$@" >"$DIR/out" 2>&1
  result $? "$what ($(($(now_ms) - start)) ms)" "$(tail -n 5 "$DIR/out")"
  { echo "---- $what"; cat "$DIR/out"; } >>"$DIR/all.log"
}

life_begin() {
  kprov create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait 150s >"$DIR/create.log" 2>&1 && return 0
  tail -n 5 "$DIR/create.log"
  tail -n 20 "$DIR/bodies.log"
  tail -n 5 "$DIR"/bodies/*/console.log "$DIR"/bodies/*/data/log/kprov/kubelet.log
  return 1
}
life_facts() { # PROVIDER_ID TYPE REGION ZONE MANNER
  grep -q "user data read.*$5" "$DIR"/bodies/*/console.log
  result $? "machines have their user data from the metadata service, as $5 has it" "$(head -n 3 "$DIR"/bodies/*/console.log)"
  grep -qx "$1" <<<"$(node_says worker-1 .spec.providerID)"
  result $? "a node has its provider id, $(node_says worker-1 .spec.providerID)"
  is "$2 $3 $4" "$(node_says worker-1 '.metadata.labels.node\.kubernetes\.io/instance-type') $(node_says worker-1 '.metadata.labels.topology\.kubernetes\.io/region') $(
    node_says worker-1 '.metadata.labels.topology\.kubernetes\.io/zone')" 'its type, region and zone are the cloud'\''s'
  has_no_taint worker-1 uninitialized
  result $? 'the cloud-controller-manager has seen it'
  k create -f - >/dev/null <<YAML
{apiVersion: v1, kind: Node, metadata: {name: $NAME-worker-9}, spec: {taints: [{key: node.cloudprovider.kubernetes.io/uninitialized, effect: NoSchedule}]}}
YAML
  timed 'a Node that waits for a machine that the cloud does not have goes' eventually 20 node_is_gone worker-9
}
life_service() {
  k create deployment web --image=registry.kprov.dev/busybox:1.35 --replicas=2 -- sh -c 'hostname > /tmp/index.html; exec httpd -f -p 80 -h /tmp' >/dev/null
  k expose deployment web --port=80 --type=LoadBalancer >/dev/null
  timed 'a deployment runs' eventually 60 k rollout status deployment web --timeout=1s
  timed 'its LoadBalancer Service has a balancer of the cloud' eventually 30 has_ingress
  is 2 "$(cloud_balancers)" 'beside the one of the API'
  timed "which carries requests: http://$(ingress)/" eventually 20 sh -c "curl -sf -m 2 http://$(ingress)/ | grep -q '^web-'"
}
life_scale() {
  timed 'a second worker' kprov scale nodepool $NAME worker --replicas 2 --wait 100s
  eventually 30 nodes_are "$NAME-cp-1:Ready $NAME-worker-1:Ready $NAME-worker-2:Ready " # on a busy machine one may be late for a moment
  is "$NAME-cp-1:Ready $NAME-worker-1:Ready $NAME-worker-2:Ready " "$(nodes)" 'three nodes are Ready'
  k scale deployment web --replicas=4 >/dev/null
  local from to
  spread() { [ "$(k get pods -l app=web --field-selector status.phase=Running -o 'jsonpath={.items[*].spec.nodeName}' | tr ' ' '\n' | sort -u | wc -l)" -ge 2 ]; }
  eventually 30 spread
  from=$(k get pods -l app=web -o "jsonpath={.items[?(@.spec.nodeName=='$NAME-worker-1')].metadata.name}" | cut -d' ' -f1)
  to=$(k get pods -l app=web -o "jsonpath={.items[?(@.spec.nodeName=='$NAME-worker-2')].status.podIP}" | cut -d' ' -f1)
  [ -n "$from" ] && [ -n "$to" ] && timed "pods of the two reach each other ($from, $to)" eventually 20 k exec "$from" -- timeout 2 wget -q -O - "http://$to/"
  result $? 'there is a pod on each' "$(k get pods -o wide 2>&1)"
}
life_power() {
  cloud_off worker-2
  timed 'a machine that is off in the cloud is told by a taint' eventually 60 has_taint worker-2 node.cloudprovider.kubernetes.io/shutdown
  cloud_on worker-2
  timed 'on again, its node is Ready' eventually 60 nodes_are "$NAME-cp-1:Ready $NAME-worker-1:Ready $NAME-worker-2:Ready "
  timed 'and without the taint' eventually 20 has_no_taint worker-2 shutdown
  cloud_remove worker-1
  timed 'a machine that is gone from the cloud is no node any more' eventually 60 node_is_gone worker-1
  timed 'kprov repair brings another' kprov repair $NAME --yes --wait 100s
  cat "$DIR/out"
  eventually 30 nodes_are "$NAME-cp-1:Ready $NAME-worker-1:Ready $NAME-worker-2:Ready " # on a busy machine one may be late for a moment
  is "$NAME-cp-1:Ready $NAME-worker-1:Ready $NAME-worker-2:Ready " "$(nodes)" 'three nodes are Ready'
  cloud_off cp-1
  eventually 30 sh -c "! timeout 3 '$KUBECTL' get --raw /readyz"
  cloud_on cp-1
  timed 'the API is back after its only machine was off' eventually 120 api_answers
  timed 'and so are all nodes' eventually 90 nodes_are "$NAME-cp-1:Ready $NAME-worker-1:Ready $NAME-worker-2:Ready "
  timed 'the Service answers again' eventually 30 sh -c "curl -sf -m 2 http://$(ingress)/ | grep -q '^web-'"
}
life_shrink() {
  k delete service web --timeout=30s >/dev/null
  is 1 "$(cloud_balancers)" 'the Service'\''s balancer is gone with it'
  timed 'a worker less' kprov scale nodepool $NAME worker --replicas 1 --remove $NAME-worker-2 # the newest would be worker-1, made anew
  eventually 30 nodes_are "$NAME-cp-1:Ready $NAME-worker-1:Ready "
  is "$NAME-cp-1:Ready $NAME-worker-1:Ready " "$(nodes)" 'two nodes are left'
  eventually 10 sh -c "[ \$(ls '$DIR/bodies' | wc -l) = 2 ]"
  is '2 2' "$(find "$DIR/bodies" -mindepth 1 -maxdepth 1 | wc -l) $(bodies_on)" 'and two bodies'
}
life_end() {
  k expose deployment web --name=again --port=80 --type=LoadBalancer >/dev/null
  eventually 20 sh -c "[ \$(timeout 20 '$KUBECTL' get service again -o 'jsonpath={.status.loadBalancer.ingress}' | wc -c) -gt 2 ]"
  timed 'the cluster is deleted, with a Service that has a balancer' kprov delete cluster $NAME --yes
  is '' "$(cloud_left)" 'the cloud has nothing of it any more'
  eventually 15 sh -c "[ -z \"\$(ls '$DIR/bodies')\" ]"
  is '' "$(bodies_left)" 'and no body, link, cgroup or route is left'
  bodies_stop
  result $? 'nor a bridge when the bodies'\'' keeper has ended' "$(tail -n 3 "$DIR/bodies.log")"
  is 'lo' "$(ip -o link | grep -v 'ifb[01]' | awk -F': ' '{ print $2 }' | tr '\n' ' ' | sed 's/ $//')" 'the network is as it was'
}
life() { # PROVIDER_ID TYPE REGION ZONE MANNER
  timed 'a control plane and a worker are Ready' life_begin
  cat "$DIR/create.log"
  [ $FAILED = 0 ] || return
  "$KPROV" get clusters -o json | sed -n 's/.*"uid": *"\([^"]*\)".*/\1/p' >"$DIR/uid"
  life_facts "$@"
  life_service
  life_scale
  life_power
  life_shrink
  life_end
}
