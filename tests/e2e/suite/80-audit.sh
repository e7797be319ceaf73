# The audit log of a cluster whose file has spec.audit (lib.sh), read as its owner reads it: kprov logs CLUSTER NODE kube-apiserver-audit.
# shellcheck shell=bash

audit_log() { "$KPROV" logs "$CLUSTER" cp-1 kube-apiserver-audit; }
audit_lines() { audit_log | grep -F "\"namespace\":\"$NS\"" | grep -F -- "$1"; } # those of the test's namespace with that text
audited() { kubectl -n kube-system get pod "kube-apiserver-$CLUSTER-cp-1" -o yaml | grep -q audit-policy-file || skip 'this cluster audits nothing'; }

test_audit_of_writes() {
  local line
  audited
  k create configmap a --from-literal=k=v >/dev/null
  k get configmap a >/dev/null
  line=$(audit_lines '"verb":"create"' | grep -F '"name":"a"')
  has '"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse"' "$line"
  has '"stage":"ResponseComplete"' "$line"
  has '"user":{"username":"kubernetes-admin"' "$line"
  has '"objectRef":{"resource":"configmaps","namespace":"'"$NS"'","name":"a","apiVersion":"v1"}' "$line"
  has '"responseStatus":{"metadata":{},"code":201}' "$line"
  has '"requestObject":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"'"$NS"'"},"data":{"k":"v"}}' "$line"
  has '"responseObject":{"kind":"ConfigMap"' "$line"
  has '"authorization.k8s.io/decision":"allow"' "$line"
  has_not managedFields "$line"
  is '' "$(audit_lines '"verb":"get"' | grep -F '"resource":"configmaps"')" 'the policy has nothing for reads'
  k create configmap b --as joe >/dev/null 2>&1 && fail 'joe may not'
  line=$(audit_lines '"impersonatedUser":{"username":"joe"')
  has '"user":{"username":"kubernetes-admin"' "$line"
  has '"code":403' "$line"
  has '"authorization.k8s.io/decision":"forbid"' "$line"
  api GET "/api/v1/namespaces/$NS/secrets/none" -H 'Audit-ID: an-id-of-mine' >/dev/null
  has '"code":404' "$(audit_lines '"auditID":"an-id-of-mine"')"
}

test_audit_of_secrets_and_connections() {
  local lines
  audited
  k create secret generic s --from-literal=password=hunter2 >/dev/null
  lines=$(audit_lines '"resource":"secrets"')
  has '"level":"Metadata"' "$lines"
  has_not "$(printf hunter2 | base64)" "$lines"
  has_not requestObject "$lines"
  sleeper s
  is hello "$(k exec s -- echo hello)"
  switched() { audit_lines '"subresource":"exec"' | grep -F '"code":101'; } # kubectl asks for a WebSocket first, and may get none
  complete() { switched | grep -F '"stage":"ResponseComplete"'; }
  wait_until 5 complete
  lines=$(switched)
  is 'ResponseStarted ResponseComplete ' "$(grep -o '"stage":"[A-Za-z]*"' <<<"$lines" | cut -d'"' -f4 | tr '\n' ' ')"
  has 'command=echo&command=hello' "$lines"
  timeout 2 "$KUBECTL" -n "$NS" get configmaps -w >/dev/null 2>&1 || true
  watched() { audit_lines '"verb":"watch"' | grep -F '"resource":"configmaps"'; }
  complete() { watched | grep -F '"stage":"ResponseComplete"'; }
  wait_until 5 complete
  is 'ResponseStarted ResponseComplete ' "$(watched | grep -o '"stage":"[A-Za-z]*"' | cut -d'"' -f4 | tr '\n' ' ')"
  # The file is its owner's alone.
  is 600 "$(on cp-1 -- stat -c %a /var/log/kubernetes/audit/audit.log)"
}

test_audit_of_policies() {
  local line
  audited
  kubectl apply -f - >/dev/null <<YAML
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: $NS}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}
  validations: [{expression: "'k' in object.data", message: k is wanted}]
  auditAnnotations: [{key: keys, valueExpression: "string(size(object.data))"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: $NS}
spec:
  policyName: $NS
  validationActions: [Audit]
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: $NS}}}
YAML
  noted() {
    k create configmap "c$RANDOM$RANDOM" --from-literal=other=1 >/dev/null
    audit_lines validation_failure
  }
  wait_until 10 noted
  line=$(audit_lines validation_failure | head -n 1)
  has '"validation.policy.admission.k8s.io/validation_failure":"[{\"message\":\"k is wanted\",\"policy\":\"'"$NS"'\",\"binding\":\"'"$NS"'\",\"expressionIndex\":0,\"validationActions\":[\"Audit\"]}]"' "$line"
  has "\"$NS/keys\":\"1\"" "$line"
  kubectl delete validatingadmissionpolicybinding,validatingadmissionpolicy "$NS" >/dev/null
}

test_audit_is_counted() {
  local metrics
  audited
  k create configmap a >/dev/null
  metrics=$(kubectl get --raw /metrics | grep '^apiserver_audit_')
  like 'apiserver_audit_event_total [1-9]' "$metrics"
  like 'apiserver_audit_level_total\{level="RequestResponse"\} [1-9]' "$metrics"
  has_not apiserver_audit_error_total "$metrics"
}
