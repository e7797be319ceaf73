# Pod Security Standards: namespaces say by their labels which pods they take.
# shellcheck shell=bash

test_pod_security() {
  local out
  sleeper before
  out=$(kubectl label namespace "$NS" pod-security.kubernetes.io/enforce=restricted 2>&1)
  has "Warning: existing pods in namespace \"$NS\" violate the new PodSecurity enforce level \"restricted:latest\"" "$out"
  has 'Warning: before: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile' "$out"
  out=$(k run plain --image="$BUSYBOX" 2>&1) && fail 'a pod that is not hardened was taken'
  has 'pods "plain" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "plain" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "plain" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "plain" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "plain" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")' "$out"
  out=$(k create deployment web --image="$BUSYBOX" -- sleep 3600 2>&1)
  has 'Warning: would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "busybox"' "$out"
  has 'deployment.apps/web created' "$out"
  why() { has 'violates PodSecurity "restricted:latest"' "$(field deployment web '.status.conditions[?(@.type=="ReplicaFailure")].message')"; }
  wait_until 10 why
  k run hardened --image="$BUSYBOX" --restart=Never --overrides='{"spec":{"securityContext":{"runAsNonRoot":true,"runAsUser":1000,"seccompProfile":{"type":"RuntimeDefault"}},"containers":[{"name":"hardened","image":"'"$BUSYBOX"'","command":["id","-u"],"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]}}' >/dev/null
  succeeded() { field_is pod hardened .status.phase Succeeded; }
  wait_until 30 succeeded
  is 1000 "$(k logs hardened)"
  out=$(k debug before --image="$BUSYBOX" --target=before -c shell -- true 2>&1) && fail 'a container that is not hardened was added'
  has 'violates PodSecurity' "$out"
  kubectl label namespace "$NS" pod-security.kubernetes.io/enforce=baseline --overwrite >/dev/null
  k run plain --image="$BUSYBOX" -- sleep 3600 >/dev/null
  out=$(k run host --image="$BUSYBOX" --overrides='{"spec":{"hostNetwork":true}}' 2>&1) && fail 'a pod on the node'\''s network was taken'
  has 'violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)' "$out"
  out=$(kubectl label namespace "$NS" pod-security.kubernetes.io/enforce=strict --overwrite 2>&1) && fail 'a level that does not exist was taken'
  has "The Namespace \"$NS\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted" "$out"
  kubectl label namespace "$NS" pod-security.kubernetes.io/enforce- >/dev/null
}
