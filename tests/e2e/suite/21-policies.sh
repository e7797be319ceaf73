# Network policies: what pods may take and send.
# shellcheck shell=bash

policed_pods() {
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  nodeName: $CLUSTER-worker-1
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: $BUSYBOX
    command: [sh, -c, 'mkdir /www; echo hello > /www/index.html; httpd -p 81 -h /www; exec httpd -f -p 80 -h /www']
    ports: [{name: http, containerPort: 80}]
    readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{port: 8080, targetPort: http}]}
$(policed_client near 1 friend)
$(policed_client far 2 friend)
$(policed_client stranger 2 stranger)
YAML
  k wait --for=condition=Ready pods --all --timeout=40s >/dev/null
  SERVER_IP=$(field pod server .status.podIP)
}
policed_client() { # name, number of the worker, role
  cat <<YAML
---
apiVersion: v1
kind: Pod
metadata: {name: $1, labels: {role: $3}}
spec:
  nodeName: $CLUSTER-worker-$2
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: $BUSYBOX, command: [sleep, "3600"]}]
YAML
}
# busybox's nc speaks HTTP/1.0 by hand; its wget of Debian 12 crashes.
asks() { sh -c "$1 sh -c \"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w $2 $3 $4 | tail -n 1\""; } # exec command, seconds, address, port
from() { echo "'$KUBECTL' -n ${2:-$NS} exec $1 --"; } # pod, namespace
reaches() { is hello "$(asks "$(from "$1")" 2 "$2" "${3:-80}")"; } # pod, address, port
is_kept_from() { is '' "$(asks "$(from "$1")" 1 "$2" "${3:-80}" 2>/dev/null)"; }

test_network_policies_of_ingress() {
  local pod
  policed_pods
  for pod in near far stranger; do reaches $pod "$SERVER_IP"; reaches $pod "$SERVER_IP" 81; done
  k apply -f - >/dev/null <<YAML
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {}, policyTypes: [Ingress]}
YAML
  for pod in near far stranger; do wait_until 10 is_kept_from $pod "$SERVER_IP"; done
  reaches server "$SERVER_IP" # itself
  k apply -f - >/dev/null <<YAML
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress:
  - from: [{podSelector: {matchLabels: {role: friend}}}]
    ports: [{port: http}]
YAML
  for pod in near far; do
    wait_until 10 reaches $pod "$SERVER_IP"
    reaches $pod server 8080 # by its Service
    is_kept_from $pod "$SERVER_IP" 81
  done
  is_kept_from stranger "$SERVER_IP"
  k label pod stranger role=friend --overwrite >/dev/null
  wait_until 10 reaches stranger "$SERVER_IP"
  k label pod stranger role=stranger --overwrite >/dev/null
  wait_until 10 is_kept_from stranger "$SERVER_IP"
  is True "$(field pod server '.status.conditions[?(@.type=="Ready")].status')" 'its own node still reaches it'
  k delete networkpolicy --all >/dev/null
  wait_until 10 reaches stranger "$SERVER_IP" 81
}

test_network_policies_between_namespaces_and_of_egress() {
  local other=$NS-other
  policed_pods
  kubectl create namespace "$other" >/dev/null
  wait_until 10 kubectl -n "$other" get serviceaccount default
  policed_client visitor 2 friend | kubectl -n "$other" apply -f - >/dev/null
  kubectl -n "$other" wait --for=condition=Ready pod/visitor --timeout=30s >/dev/null
  visits() { is hello "$(asks "$(from visitor "$other")" 2 "$SERVER_IP" 80)"; }
  stays_out() { is '' "$(asks "$(from visitor "$other")" 1 "$SERVER_IP" 80 2>/dev/null)"; }
  visits
  k apply -f - >/dev/null <<YAML
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: of-one-namespace}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {visits: allowed}}}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: names-only}
spec:
  podSelector: {matchLabels: {role: stranger}}
  policyTypes: [Egress]
  egress:
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
    ports: [{protocol: UDP, port: 53}, {port: 53}]
  - to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]
YAML
  wait_until 10 stays_out
  kubectl label namespace "$other" visits=allowed >/dev/null
  wait_until 10 visits
  is_kept_from near "$SERVER_IP"
  k delete networkpolicy of-one-namespace >/dev/null
  wait_until 10 reaches near "$SERVER_IP"
  wait_until 10 is_kept_from stranger "$SERVER_IP"
  has "server.$NS.svc.cluster.local" "$(k exec stranger -- nslookup -type=a "server.$NS.svc.cluster.local")" # asks the DNS by its Service all the same
  reaches far "$SERVER_IP"
  kubectl delete namespace "$other" --wait=false >/dev/null
}

test_network_policies_bad_input() {
  local out
  policy() { printf 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: bad}\nspec: {podSelector: {}, ingress: [{%s}]}\n' "$1" | k apply -f - 2>&1 && fail "taken: $1"; true; }
  has 'spec.ingress[0].ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive' "$(policy 'ports: [{port: 70000}]')"
  has 'spec.ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`' "$(policy 'ports: [{port: 80, endPort: 70}]')"
  has 'spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric' "$(policy 'ports: [{port: http, endPort: 90}]')"
  has 'spec.ingress[0].from[0]: Required value: must specify a peer' "$(policy 'from: [{}]')"
  has 'spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer' "$(policy 'from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]')"
  has 'spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.0/+8": must be a valid CIDR value' "$(policy 'from: [{ipBlock: {cidr: 10.0.0.0/+8}}]')"
  has 'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`' "$(policy 'from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]')"
}
