# Services, names and the way between pods.
# shellcheck shell=bash

test_service_by_cluster_ip_node_port_and_name() {
  k apply -f - >/dev/null < <(web_yaml 3)
  k rollout status deployment/web --timeout=60s >/dev/null
  wait_until 10 sh -c "[ \$('$KUBECTL' -n $NS get endpointslices -l kubernetes.io/service-name=web -o 'jsonpath={.items[*].endpoints[*].addresses[0]}' | wc -w) = 3 ]"
  local cluster_ip node_port node
  cluster_ip=$(field service web .spec.clusterIP)
  node_port=$(field service web '.spec.ports[0].nodePort')
  for node in cp-1 worker-1 worker-2; do
    wait_until 10 curl -sf -m 2 "http://$(address $node):$node_port/"
    like '^web-' "$(curl -s -m 2 "http://$(address $node):$node_port/")"
  done
  sleeper client
  # busybox's nc reads HTTP/1.0 by hand; its wget of Debian 12 crashes.
  from_pod() { k exec client -- sh -c "printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 3 $1 80 | tail -n 1"; }
  like '^web-' "$(from_pod "$cluster_ip")"
  like '^web-' "$(from_pod web)"
  like '^web-' "$(from_pod "web.$NS.svc.cluster.local")"
  has "$cluster_ip" "$(k exec client -- nslookup "web.$NS.svc.cluster.local")"
  # All three answer in turn.
  local i
  for i in $(seq 40); do from_pod "$cluster_ip"; done | sort -u >"$DIR/answers"
  is 3 "$(grep -c '^web-' "$DIR/answers")" 'pods that answered'
}

test_pods_reach_each_other_across_nodes() {
  local a b
  for a in 1 2; do
    k run "pod-$a" --image="$BUSYBOX" --restart=Never --overrides='{"spec":{"nodeName":"'"$CLUSTER-worker-$a"'","terminationGracePeriodSeconds":0}}' --command -- sleep 3600 >/dev/null
  done
  k wait --for=condition=Ready pod/pod-1 pod/pod-2 --timeout=30s >/dev/null
  a=$(field pod pod-1 .status.podIP) b=$(field pod pod-2 .status.podIP)
  k exec pod-1 -- ping -c 1 -W 3 "$b" >/dev/null
  k exec pod-2 -- ping -c 1 -W 3 "$a" >/dev/null
}

test_headless_service_names_its_pods() {
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, selector: {app: peer}, ports: [{name: x, port: 80}]}
YAML
  k run peer --image="$PAUSE" --labels=app=peer >/dev/null
  k wait --for=condition=Ready pod/peer --timeout=30s >/dev/null
  sleeper client
  wait_until 10 sh -c "'$KUBECTL' -n $NS exec client -- nslookup peers.$NS.svc.cluster.local | grep -q $(field pod peer .status.podIP)"
}

test_pod_reaches_the_api_by_its_service() {
  sleeper client
  is 10.96.0.1 "$(kubectl -n default get service kubernetes -o 'jsonpath={.spec.clusterIP}')"
  k exec client -- nc -w 3 kubernetes.default.svc 443 -e true
  has "$NS" "$(k exec client -- cat /var/run/secrets/kubernetes.io/serviceaccount/namespace)"
}

# A machine of a cloud asks there for its keys: worker 2 plays the metadata service for worker 1. Pods of the machine's own network may ask.
test_pods_do_not_reach_the_metadata_service() {
  local metadata=169.254.169.254 name network
  on "$CLUSTER-worker-2" -- ip address add $metadata/32 dev lo
  on "$CLUSTER-worker-1" -- ip route add $metadata via "$(address worker-2)"
  for name in host:true pod:false; do
    network=${name#*:} name=${name%:*}
    k run "$name" --image="$BUSYBOX" --restart=Never --overrides='{"spec":{"nodeName":"'"$CLUSTER-worker-1"'","hostNetwork":'"$network"',"terminationGracePeriodSeconds":0}}' --command -- sleep 3600 >/dev/null
  done
  k wait --for=condition=Ready pod/host pod/pod --timeout=30s >/dev/null
  k exec host -- nc -w 3 $metadata 10250 -e true
  ! k exec pod -- nc -w 3 $metadata 10250 -e true 2>/dev/null || fail 'a pod reached the metadata service'
  k exec pod -- nc -w 3 "$(address worker-2)" 10250 -e true
  on "$CLUSTER-worker-1" -- ip route del $metadata
  on "$CLUSTER-worker-2" -- ip address del $metadata/32 dev lo
}

# A port of the node leads to the pod's, as the portmap plugin of CNI has it.
test_host_port() {
  local node_ip
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: door}
spec:
  nodeName: $CLUSTER-worker-1
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: $BUSYBOX
    command: [sh, -c, 'mkdir /www; echo door > /www/index.html; exec httpd -f -p 80 -h /www']
    ports: [{containerPort: 80, hostPort: 8099}]
YAML
  sleeper visitor
  k wait --for=condition=Ready pod/door --timeout=30s >/dev/null
  node_ip=$(address worker-1)
  answers() { is door "$(curl -sS -m 3 "http://$node_ip:8099/")"; }
  wait_until 10 answers
  is door "$(k exec visitor -- sh -c "printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 3 $node_ip 8099 | tail -n 1")" 'from a pod'
  is door "$(k exec door -- sh -c "printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 3 $node_ip 8099 | tail -n 1")" 'from the pod itself'
  # A second one is not put on the same node.
  k create deployment doors --image="$BUSYBOX" --replicas=2 -- sleep 3600 >/dev/null
  k patch deployment doors --type=json -p '[{"op":"add","path":"/spec/template/spec/containers/0/ports","value":[{"containerPort":80,"hostPort":8099}]}]' >/dev/null
  wait_until 20 like_events "didn't have free ports for the requested pod ports"
  k delete pod door --wait=true >/dev/null
  closed() { ! curl -sS -m 1 "http://$node_ip:8099/" 2>/dev/null | grep -q door; }
  wait_until 10 closed
}
like_events() { k get events -o 'jsonpath={.items[*].message}' | grep -q "$1"; }
