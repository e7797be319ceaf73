# Pods that use more of a node's disk than they may.
# shellcheck shell=bash

volume_has_stopped() { like '^volume +0/1 +Error +0 ' "$(k get pod volume)"; } # how its container ended stands before why, as upstream has it
pod_failed_as() { is "Failed $2" "$(field pod "$1" '.status.phase') $(field pod "$1" '.status.reason')"; }

test_beside_eviction_of_a_pod_over_its_limits() {
  k apply -f - >/dev/null <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: modest}
spec:
  selector: {matchLabels: {app: modest}}
  template:
    metadata: {labels: {app: modest}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: c, image: $BUSYBOX, command: [sleep, "3600"], resources: {limits: {ephemeral-storage: 8Mi}}, volumeMounts: [{name: v, mountPath: /v}]}
      volumes: [{name: v, emptyDir: {sizeLimit: 4Mi}}]
---
apiVersion: v1
kind: Pod
metadata: {name: volume}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: $BUSYBOX, command: [sh, -c, 'dd if=/dev/zero of=/v/f bs=1M count=6 2>/dev/null; sleep 3600'], volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, emptyDir: {sizeLimit: 4Mi}}]
---
apiVersion: v1
kind: Pod
metadata: {name: layer}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: $BUSYBOX, command: [sh, -c, 'dd if=/dev/zero of=/f bs=1M count=10 2>/dev/null; sleep 3600'], resources: {limits: {ephemeral-storage: 8Mi}}}
YAML
  wait_until 90 pod_failed_as volume Evicted
  wait_until 30 pod_failed_as layer Evicted
  is 'Usage of EmptyDir volume "v" exceeds the limit "4Mi". ' "$(field pod volume '.status.message')"
  is 'Pod ephemeral local storage usage exceeds the total limit of containers 8Mi. ' "$(field pod layer '.status.message')"
  is 'TerminationByKubelet' "$(field pod volume '.status.conditions[?(@.type=="DisruptionTarget")].reason')"
  like 'Warning +Evicted .*Usage of EmptyDir volume "v" exceeds the limit "4Mi"' "$(k describe pod volume)"
  wait_until 10 volume_has_stopped
  like '^modest-[^ ]+ +1/1 +Running +0 ' "$(k get pods -l app=modest)"
}
