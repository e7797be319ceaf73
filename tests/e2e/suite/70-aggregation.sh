# Aggregated API servers with the real kubectl: tests/support/aggregated.py on this host, behind a Service without a selector.
# shellcheck shell=bash

# Starts the server on this host, for a group of the test's own, and lets it be known; it trusts whom the cluster says it may.
aggregated_up() {
  local host port
  host=$(ip -4 route get "$(address cp-1)" | sed -n 's/.* src \([^ ]*\).*/\1/p')
  port=$((20000 + RANDOM % 10000))
  trust() { kubectl -n kube-system get configmap extension-apiserver-authentication -o "jsonpath={.data.requestheader-$1}"; }
  trust client-ca-file >"$DIR/front-$NS.crt"
  like '^\["' "$(trust allowed-names)"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$DIR/things-$NS.key" -out "$DIR/things-$NS.crt" -days 2 \
    -subj /CN=things -addext "subjectAltName=DNS:things.$NS.svc" 2>/dev/null
  timeout 300 tests/support/aggregated.py --bind "$host" --port $port --cert "$DIR/things-$NS.crt" --key "$DIR/things-$NS.key" --group "$NS.test" \
    --requestheader-ca "$DIR/front-$NS.crt" --allowed-name "$(trust allowed-names | sed 's/^\["\([^"]*\)".*/\1/')" >"$DIR/things-$NS.log" 2>&1 &
  AGGREGATED=$!
  trap 'kill $AGGREGATED 2>/dev/null; kubectl delete apiservice "v1.$NS.test" --ignore-not-found >/dev/null' EXIT
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Service
metadata: {name: things}
spec: {ports: [{name: https, port: 443, targetPort: $port}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: things, labels: {kubernetes.io/service-name: things}}
addressType: IPv4
ports: [{name: https, port: $port, protocol: TCP}]
endpoints: [{addresses: ["$host"], conditions: {ready: true}}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.$NS.test}
spec:
  group: $NS.test
  version: v1
  groupPriorityMinimum: 1000
  versionPriority: 15
  service: {name: things, namespace: $NS}
  caBundle: $(base64 -w0 "$DIR/things-$NS.crt")
YAML
  kubectl wait --for=condition=Available "apiservice/v1.$NS.test" --timeout=30s >/dev/null
}
thing() { # name
  k create -f - <<YAML
apiVersion: $NS.test/v1
kind: Thing
metadata: {name: $1, namespace: $NS}
spec: {color: red}
YAML
}

test_what_the_api_server_serves_itself_has_its_api_services() {
  local out
  out=$(kubectl get apiservices)
  like '^NAME +SERVICE +AVAILABLE +AGE$' "$(head -n 1 <<<"$out")"
  like '^v1\.apps +Local +True ' "$out"
  is onstart "$(kubectl get apiservice v1.apps -o 'jsonpath={.metadata.labels.kube-aggregator\.kubernetes\.io/automanaged}')"
  is 'Local: Local APIServices are always available' "$(kubectl get apiservice v1. -o 'jsonpath={.status.conditions[0].reason}: {.status.conditions[0].message}')"
  kubectl -n kube-system get rolebinding system::extension-apiserver-authentication-reader >/dev/null
}

test_api_services_of_custom_resources_come_and_go_with_them() {
  kubectl apply -f - >/dev/null <<YAML
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: parts.$NS.test}
spec:
  group: $NS.test
  scope: Namespaced
  names: {plural: parts, kind: Part}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
YAML
  wait_until 10 kubectl get apiservice "v1.$NS.test"
  is true "$(kubectl get apiservice "v1.$NS.test" -o 'jsonpath={.metadata.labels.kube-aggregator\.kubernetes\.io/automanaged}')"
  kubectl delete crd "parts.$NS.test" >/dev/null
  wait_until 10 sh -c "! '$KUBECTL' get apiservice v1.$NS.test"
}

test_faults_of_an_api_service_are_refused() {
  local out
  out=$(kubectl apply -f - 2>&1 <<YAML
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.other}
spec: {group: $NS.test, version: v1, groupPriorityMinimum: 30000, versionPriority: 15, insecureSkipTLSVerify: true}
YAML
) && fail "accepted: $out"
  has "metadata.name: Invalid value: \"v1.other\": must be \`spec.version+\".\"+spec.group\`: \"v1.$NS.test\"" "$out"
  has 'must be positive and less than 20000' "$out"
  has 'local APIServices may not have insecureSkipTLSVerify' "$out"
}

test_objects_of_an_aggregated_api_server() {
  aggregated_up
  like "^v1\.$NS\.test +$NS/things +True " "$(kubectl get apiservice)"
  like "^things +tg +$NS.test/v1 +true +Thing$" "$(kubectl api-resources --api-group="$NS.test")"
  thing one >/dev/null
  like '^one +[0-9]+s$' "$(k get "things.$NS.test" --no-headers)"
  is red "$(k get "things.$NS.test" one -o 'jsonpath={.spec.color}')"
  has 'What is wanted of the thing.' "$(kubectl explain "things.spec" --api-version="$NS.test/v1")"
  k get "things.$NS.test" --watch -o name >"$DIR/watched" 2>/dev/null &
  local watch=$!
  wait_until 10 grep -q one "$DIR/watched"
  thing two >/dev/null
  wait_until 10 grep -q two "$DIR/watched"
  kill $watch
  k delete "things.$NS.test" two >/dev/null
  has "$NS.test \"two\" not found" "$(k get "things.$NS.test" two 2>&1)"
}

test_who_asks_an_aggregated_api_server_is_told_by_the_front_proxy() {
  aggregated_up
  local out
  k create serviceaccount jane >/dev/null
  kubectl create clusterrolebinding "jane-$NS" --clusterrole=cluster-admin --serviceaccount="$NS:jane" >/dev/null
  out=$(kubectl --as="system:serviceaccount:$NS:jane" get --raw "/apis/$NS.test/v1/namespaces/$NS/things/x/echo?a=1")
  kubectl delete clusterrolebinding "jane-$NS" >/dev/null
  has "\"x-remote-user\": [\"system:serviceaccount:$NS:jane\"]" "$out"
  has "\"system:serviceaccounts:$NS\"" "$out"
  has "\"host\": [\"things.$NS.svc:443\"]" "$out"
  has "\"x-forwarded-uri\": [\"/apis/$NS.test/v1/namespaces/$NS/things/x/echo\"]" "$out"
  has_not '"authorization"' "$out"
  has_not '"impersonate-user"' "$out"
  # Authorisation is the API server's own.
  has 'is forbidden: User "nobody" cannot list resource "things"' "$(kubectl --as=nobody -n "$NS" get "things.$NS.test" 2>&1)"
  is 50000000 "$(kubectl get --raw "/apis/$NS.test/v1/namespaces/$NS/things/x/echo?bytes=50000000" | wc -c)"
  has 'the backend attempted to redirect this request' "$(kubectl get --raw "/apis/$NS.test/v1/namespaces/$NS/things/x/echo?redirect" 2>&1)"
}

test_an_aggregated_api_server_that_goes_and_comes_back() {
  aggregated_up
  thing one >/dev/null
  k delete endpointslice things >/dev/null
  wait_until 10 sh -c "'$KUBECTL' get apiservice v1.$NS.test | grep -q 'False (EndpointsNotFound)'"
  has 'service unavailable' "$(api GET "/apis/$NS.test/v1")"
  like '503$' "$(api GET "/apis/$NS.test/v1")"
  has 'the server is currently unable to handle the request' "$(kubectl get --raw "/apis/$NS.test/v1/namespaces/$NS/things" 2>&1)"
  has '"freshness":"Stale"' "$(api GET /apis -H 'Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList')"
  # All else goes on, but a namespace cannot tell whether it is empty.
  kubectl create namespace "$NS-held" >/dev/null
  kubectl delete namespace "$NS-held" --wait=false >/dev/null
  wait_until 15 sh -c "'$KUBECTL' get namespace $NS-held -o 'jsonpath={.status.conditions[?(@.type==\"NamespaceDeletionDiscoveryFailure\")].message}' | grep -q 'stale GroupVersion discovery: $NS.test/v1'"
  kubectl delete apiservice "v1.$NS.test" >/dev/null
  wait_until 60 sh -c "! '$KUBECTL' get namespace $NS-held"
}

test_objects_of_an_aggregated_api_server_go_with_their_namespace() {
  aggregated_up
  kubectl create namespace "$NS-gone" >/dev/null
  kubectl create --raw "/apis/$NS.test/v1/namespaces/$NS-gone/things" -f - >/dev/null <<<'{"metadata":{"name":"one"}}'
  kubectl delete namespace "$NS-gone" --timeout=60s >/dev/null
  has '"items": []' "$(kubectl get --raw "/apis/$NS.test/v1/namespaces/$NS-gone/things")"
}
