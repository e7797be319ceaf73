# Admission extended by users, with the real kubectl: webhooks - a server of ours (tests/e2e/webhook) on this host, behind a Service - and policies in CEL.
# shellcheck shell=bash

HOOK=$PWD/${BUILD:-build}/e2e/webhook

# Serves https as Service "hook" of the namespace; its log is $DIR/hook-$NS.log. Ends with the test.
hook_up() {
  local dir=$DIR/hook-$NS port=$((20000 + RANDOM % 10000)) host
  mkdir -p "$dir"
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout "$dir/ca.key" -out "$dir/ca.crt" -subj /CN=hooks 2>/dev/null
  openssl req -newkey rsa:2048 -nodes -keyout "$dir/key.pem" -out "$dir/csr.pem" -subj /CN=hook 2>/dev/null
  openssl x509 -req -in "$dir/csr.pem" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -CAcreateserial -days 2 -out "$dir/cert.pem" \
    -extfile <(echo "subjectAltName=DNS:hook.$NS.svc") 2>/dev/null
  host=$(ip -4 route get "$(address cp-1)" | sed -n 's/.* src \([0-9.]*\).*/\1/p')
  "$HOOK" "$host" "$port" "$dir/cert.pem" "$dir/key.pem" >"$DIR/hook-$NS.log" 2>&1 &
  HOOK_PID=$!
  trap hook_down EXIT
  wait_until 5 grep -q listening "$DIR/hook-$NS.log"
  CA_BUNDLE=$(base64 -w0 "$dir/ca.crt")
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Service
metadata: {name: hook}
spec: {ports: [{port: 443, targetPort: $port}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: hook-1, labels: {kubernetes.io/service-name: hook}}
addressType: IPv4
ports: [{name: "", port: $port}]
endpoints: [{addresses: [$host]}]
YAML
}
hook_down() {
  kill "$HOOK_PID" 2>/dev/null || true
  kubectl delete mutatingwebhookconfiguration,validatingwebhookconfiguration -l "test=$NS" >/dev/null 2>&1 || true
}
# Mutating|Validating name path operations resources [more of the webhook]: of this namespace alone. Every API server knows it a
# moment later, and nothing tells when.
hook() {
  kubectl apply -f - >/dev/null <<YAML
apiVersion: admissionregistration.k8s.io/v1
kind: $1WebhookConfiguration
metadata: {name: $NS-$2, labels: {test: $NS}}
webhooks:
- name: $2.$NS.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  timeoutSeconds: 2
  clientConfig: {service: {namespace: $NS, name: hook, path: /$3}, caBundle: $CA_BUNDLE}
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: $NS}}
  rules: [{operations: [$4], apiGroups: ["", apps], apiVersions: [v1], resources: [$5]}]
${6:-}
YAML
  sleep 1
}
test_webhooks_change_and_refuse() {
  hook_up
  hook Mutating label label CREATE configmaps
  k create configmap a --from-literal=k=v >/dev/null
  is yes "$(field configmap a .metadata.labels.hooked)"
  hook Validating deny deny 'UPDATE, DELETE' configmaps
  has 'admission webhook "deny.'"$NS"'.example.com" denied the request: not today' "$(k delete configmap a 2>&1)"
  has 'denied the request: not today' "$(k label configmap a x=y 2>&1)"
  has 'denied the request: not today' "$(k label configmap a x=y --dry-run=server 2>&1)"
  has "/deny DELETE v1/ConfigMap $NS/a - kubernetes-admin" "$(cat "$DIR/hook-$NS.log")"
  kubectl -n default create configmap "$NS" >/dev/null
  kubectl -n default delete configmap "$NS" >/dev/null
  kubectl delete validatingwebhookconfiguration "$NS-deny" >/dev/null
  wait_until 5 k delete configmap a
  # A container that is put in gets what every container gets: defaults, and the account's token.
  hook Mutating sidecar sidecar CREATE pods
  k run p --image="$PAUSE" >/dev/null
  is 'p sidecar' "$(field pod p '.spec.containers[*].name')"
  is "$(field pod p '.spec.containers[0].volumeMounts')" "$(field pod p '.spec.containers[1].volumeMounts')"
  k wait --for=condition=Ready pod/p --timeout=30s >/dev/null
  k delete pod p --now >/dev/null
}

test_webhooks_that_do_not_answer() {
  hook_up
  hook Validating v slow CREATE configmaps
  has "Internal error occurred: failed calling webhook \"v.$NS.example.com\": failed to call webhook: Post \"https://hook.$NS.svc:443/slow?timeout=2s\": context deadline exceeded" "$(k create configmap a 2>&1)"
  hook Validating v broken CREATE configmaps
  has 'failed to call webhook: an error on the server ("out of order") has prevented the request from succeeding' "$(k create configmap a 2>&1)"
  kubectl delete validatingwebhookconfiguration "$NS-v" >/dev/null
  hook Validating w slow CREATE configmaps '  failurePolicy: Ignore'
  k create configmap a >/dev/null
  hook Validating x warn CREATE configmaps
  has 'Warning: this is going to be refused one day' "$(k create configmap b 2>&1)"
  k delete service hook >/dev/null
  no_service() { has "service \"hook\" not found" "$(k create configmap "c$RANDOM" 2>&1)"; }
  wait_until 10 no_service
}

test_webhooks_see_scale_and_exec() {
  hook_up
  k create deployment d --image="$PAUSE" --replicas=0 >/dev/null
  sleeper s
  hook Mutating scale scale UPDATE deployments/scale
  k scale deployment d --replicas=1 >/dev/null
  is 2 "$(field deployment d .spec.replicas)"
  has "/scale UPDATE v1/Scale $NS/d scale " "$(cat "$DIR/hook-$NS.log")"
  hook Validating exec deny CONNECT pods/exec
  has 'denied the request: not today' "$(k exec s -- true 2>&1)"
  has "/deny CONNECT v1/PodExecOptions $NS/s exec " "$(cat "$DIR/hook-$NS.log")"
}

test_webhooks_bad_input() {
  local out
  out=$(kubectl create -f - 2>&1 <<YAML
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: $NS}
webhooks:
- name: short
  admissionReviewVersions: [v7]
  sideEffects: Some
  timeoutSeconds: 31
  clientConfig: {url: "http://hook.example.com/?q#f"}
  rules: [{operations: ["*", CREATE], apiGroups: [""], apiVersions: [], resources: ["pods", "pods/*", "*/*"]}]
YAML
  ) && fail "it was taken: $out"
  has 'webhooks[0].name: Invalid value: "short": should be a domain with at least three segments separated by dots' "$out"
  has "'https' is the only allowed URL scheme" "$out"
  has 'webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"' "$out"
  has 'webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds' "$out"
  has "if '*' is present, must not specify other operations" "$out"
  has 'webhooks[0].rules[0].apiVersions: Required value' "$out"
  has "if '*/*' is present, must not specify other resources" "$out"
  has 'must include at least one of v1, v1beta1' "$out"
}

test_webhook_conditions() {
  hook_up
  hook Validating c deny CREATE configmaps "  matchConditions: [{name: only-z, expression: \"object.metadata.name.startsWith('z')\"}]"
  k create configmap a >/dev/null
  has 'denied the request: not today' "$(k create configmap z 2>&1)"
  hook Validating c deny CREATE configmaps "  matchConditions: [{name: e, expression: \"object.data.k == 'v'\"}]"
  has "configmaps \"b\" is forbidden: expression 'object.data.k == 'v'' resulted in error: no such key: data" "$(k create configmap b 2>&1)"
  has "undeclared reference to 'params'" "$(kubectl get validatingwebhookconfiguration "$NS-c" -o yaml | sed "s/object.data.k == 'v'/params.x/" | kubectl replace -f - 2>&1)"
}

# name spec of the policy, actions of its binding [more of the binding]: about this namespace's configmaps and deployments.
policy() {
  kubectl apply -f - >/dev/null <<YAML
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: $NS-$1}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: $NS}}
    resourceRules: [{apiGroups: ["", apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps, deployments]}]
$2
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: $NS-$1}
spec:
  policyName: $NS-$1
  validationActions: $3
${4:-}
YAML
  sleep 1
}
no_policies() { kubectl delete validatingadmissionpolicy,validatingadmissionpolicybinding "$NS-p" >/dev/null; }

test_policies() {
  policy p "
  variables:
  - {name: replicas, expression: \"object.kind == 'Deployment' ? object.spec.replicas : 0\"}
  validations:
  - {expression: 'variables.replicas <= 3', messageExpression: \"string(variables.replicas) + ' are too many in ' + namespaceObject.metadata.name\"}
  - {expression: \"!('secret' in object.?data.orValue({}))\", message: no secrets here, reason: Forbidden}" '[Deny]'
  has "deployments.apps \"d\" is forbidden: ValidatingAdmissionPolicy '$NS-p' with binding '$NS-p' denied request: 5 are too many in $NS" "$(k create deployment d --image="$PAUSE" --replicas=5 2>&1)"
  k create deployment d --image="$PAUSE" --replicas=0 >/dev/null
  has 'too many' "$(k patch deployment d -p '{"spec":{"replicas":4}}' 2>&1)"
  has 'no secrets here' "$(k create configmap c --from-literal=secret=x 2>&1)"
  has '"code":403' "$(api POST "/api/v1/namespaces/$NS/configmaps" -H 'Content-Type: application/json' -d '{"metadata":{"name":"c"},"data":{"secret":"x"}}' | tr -d ' ')"
  k create configmap c --from-literal=open=x >/dev/null
  kubectl patch validatingadmissionpolicybinding "$NS-p" --type merge -p '{"spec":{"validationActions":["Warn","Audit"]}}' >/dev/null
  sleep 1
  has "Warning: Validation failed for ValidatingAdmissionPolicy '$NS-p' with binding '$NS-p': no secrets here" "$(k create configmap w --from-literal=secret=x 2>&1)"
  k get configmap w >/dev/null
  no_policies
}

test_policies_with_parameters() {
  policy p "
  paramKind: {apiVersion: v1, kind: ConfigMap}
  validations: [{expression: 'size(object.metadata.name) <= int(params.data.length)', message: too long}]" '[Deny]' \
    "  paramRef: {name: $NS-limit, namespace: default, parameterNotFoundAction: Deny}"
  has 'failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction' "$(k create configmap abc 2>&1)"
  kubectl -n default create configmap "$NS-limit" --from-literal=length=3 >/dev/null
  wait_until 5 k create configmap abc
  has 'too long' "$(k create configmap abcd 2>&1)"
  kubectl -n default delete configmap "$NS-limit" >/dev/null
  no_policies
}

test_policies_bad_input() {
  local out
  out=$(policy p "
  variables: [{name: a-b, expression: '1 +'}]
  validations: [{expression: 'object.x ==', message: m}, {expression: '1'}, {expression: 'request.foo == 1'}]" '[Deny, Warn]' 2>&1)
  has 'name is not a valid CEL identifier' "$out"
  has 'compilation failed: ERROR: <input>:1:12: Syntax error: mismatched input' "$out"
  has 'spec.validations[1].expression: Invalid value: "1": must evaluate to bool' "$out"
  has "undefined field 'foo'" "$out"
  has 'must not contain both Deny and Warn' "$out"
  has 'MutatingAdmissionPolicies are kept and have no effect' "$(kubectl create --dry-run=server -f - 2>&1 <<YAML
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: $NS}
spec:
  reinvocationPolicy: Never
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}
  mutations: [{patchType: JSONPatch, jsonPatch: {expression: '[]'}}]
YAML
)"
}
