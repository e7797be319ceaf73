# What nodes and pods use (kubectl top), and autoscalers that go by it.
# shellcheck shell=bash

# One pod that is busy for some of the time, until every pod of it is told to rest.
busy() { # name
  k apply -f - >/dev/null <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: $1}
spec:
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: load
        image: $BUSYBOX
        resources: {requests: {cpu: 20m, memory: 4Mi}}
        command: [sh, -c, 'while :; do if [ -e /tmp/rest ]; then sleep 1; else i=0; while [ \$i -lt 20000 ]; do i=\$((i+1)); done; sleep 0.02; fi; done']
YAML
  k rollout status "deployment/$1" --timeout=60s >/dev/null
}
rest() { # name
  local pod
  for pod in $(k get pods -l "app=$1" -o name); do k exec "$pod" -- touch /tmp/rest || return 1; done
}

test_top() {
  local out
  sleeper topped
  out=$(kubectl top nodes)
  like '^NAME +CPU\(cores\) +CPU\(%\) +MEMORY\(bytes\) +MEMORY\(%\)' "$out"
  like "^$CLUSTER-cp-1 +[0-9]+m +[0-9]+% +[0-9]+Mi +[0-9]+%" "$out"
  is 3 "$(kubectl top nodes --no-headers | wc -l)" 'nodes with metrics'
  out=$(kubectl top pods -A)
  like '^NAMESPACE +NAME +CPU\(cores\) +MEMORY\(bytes\)' "$out"
  like "^kube-system +kube-apiserver-$CLUSTER-cp-1 +[1-9][0-9]*m +[1-9][0-9]*Mi" "$out"
  like "^kube-system +etcd-$CLUSTER-cp-1 +etcd +" "$(kubectl top pods -n kube-system --containers | sed 's/^/kube-system /')"
  wait_until 40 k top pod topped # a container that is ten seconds old has numbers
  like '^topped +[0-9]+m +[0-9]+Mi' "$(k top pods -l run=topped)"
  kubectl top pods -A --sort-by=memory >/dev/null
}

test_resource_metrics_api() {
  local out
  like '^nodes +metrics.k8s.io/v1beta1 +false +NodeMetrics' "$(kubectl api-resources --api-group=metrics.k8s.io)"
  like '^pods +metrics.k8s.io/v1beta1 +true +PodMetrics' "$(kubectl api-resources --api-group=metrics.k8s.io)"
  has '"kind":"NodeMetricsList","apiVersion":"metrics.k8s.io/v1beta1"' "$(kubectl get --raw /apis/metrics.k8s.io/v1beta1/nodes)"
  out=$(kubectl get --raw "/apis/metrics.k8s.io/v1beta1/namespaces/kube-system/pods/etcd-$CLUSTER-cp-1")
  has '"containers":[{"name":"etcd","usage":{"cpu":"' "$out"
  has '"window":"' "$out"
  like '^NAME +CPU +MEMORY +WINDOW' "$(kubectl get nodes.metrics.k8s.io)"
  is "$CLUSTER-cp-1" "$(kubectl get nodes.metrics.k8s.io -l node-role.kubernetes.io/control-plane -o 'jsonpath={.items[*].metadata.name}')"
  is "etcd-$CLUSTER-cp-1" "$(kubectl get pods.metrics.k8s.io -n kube-system --field-selector "metadata.name=etcd-$CLUSTER-cp-1" -o 'jsonpath={.items[*].metadata.name}')"
  has 'pods "none" not found' "$(k get pods.metrics.k8s.io none 2>&1)"
  has 'the server does not allow this method on the requested resource' "$(kubectl delete --raw "/apis/metrics.k8s.io/v1beta1/nodes/$CLUSTER-cp-1" 2>&1)"
  k create serviceaccount viewer >/dev/null
  is no "$(k auth can-i list pods.metrics.k8s.io --as "system:serviceaccount:$NS:viewer" 2>/dev/null || true)"
  k create rolebinding viewer --clusterrole=view --serviceaccount="$NS:viewer" >/dev/null
  wait_until 10 sh -c "'$KUBECTL' -n $NS auth can-i list pods.metrics.k8s.io --as system:serviceaccount:$NS:viewer"
  kubectl explain podmetrics | grep -q 'containers' || fail 'kubectl explain podmetrics'
}

# What Prometheus and metrics-server read of a kubelet.
test_kubelet_resource_metrics() {
  local out
  out=$(kubectl get --raw "/api/v1/nodes/$CLUSTER-cp-1/proxy/metrics/resource")
  like '^container_cpu_usage_seconds_total\{container="etcd",namespace="kube-system",pod="etcd-.*"\} [0-9.]+ [0-9]{13}$' "$out"
  like '^container_start_time_seconds\{container="etcd",.*\} [0-9]{10}\.[0-9]+$' "$out"
  like '^node_cpu_usage_seconds_total [0-9.]+ [0-9]{13}$' "$out"
  like '^node_memory_working_set_bytes [1-9][0-9]+ [0-9]{13}$' "$out"
  out=$(kubectl get --raw "/api/v1/nodes/$CLUSTER-cp-1/proxy/stats/summary")
  like '"usageNanoCores":[1-9][0-9]*' "$out"
}

hpa_says() { has "$2" "$(k get hpa "$1" -o 'jsonpath={.status.conditions[*].message}')"; }
hpa_size_is() { is "$1" "$(field hpa load '.status.desiredReplicas')"; }
test_beside_autoscale_up_and_down() {
  local out
  k create deployment bare --image="$BUSYBOX" -- sleep 3600 >/dev/null # beside it: one that cannot be scaled, for it requests nothing
  has 'horizontalpodautoscaler.autoscaling/bare autoscaled' "$(k autoscale deployment bare --min=1 --max=3 --cpu=50%)"
  busy load
  wait_until 40 k top pod -l app=load
  k apply -f - >/dev/null <<YAML
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: load}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: load}
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
YAML
  field_is hpa load '.spec.minReplicas' 1
  field_is hpa load '.spec.behavior.scaleUp.policies[0].type' Pods
  wait_until 50 hpa_size_is 2
  like '^load +Deployment/load +cpu: [0-9]+%/50% +1 +2 +[12] ' "$(k get hpa load)"
  out=$(k describe hpa load)
  like 'SuccessfulRescale +.*New size: 2; reason: cpu resource utilization \(percentage of request\) above target' "$out"
  like 'ScalingActive +True +ValidMetricFound +the HPA was able to successfully calculate a replica count from cpu resource utilization' "$out"
  like 'resource cpu on pods +\(as a percentage of request\): +[0-9]+% \([0-9]+m\) / 50%' "$out"
  k rollout status deployment/load --timeout=30s >/dev/null
  rest load
  wait_until 60 hpa_size_is 1
  has 'All metrics below target' "$(k describe hpa load)"
  hpa_says bare 'missing request for cpu in container busybox of Pod bare-'
  like '^bare +Deployment/bare +cpu: <unknown>/50% +1 +3 +1 ' "$(k get hpa bare)"
}

test_autoscaler_tells_what_is_wrong() {
  k create -f - >/dev/null <<YAML
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: lost}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: nowhere}, maxReplicas: 2}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: odd}
spec: {scaleTargetRef: {apiVersion: example.com/v1, kind: Odd, name: nowhere}, maxReplicas: 2}
YAML
  wait_until 10 hpa_says lost "the HPA controller was unable to get the target's current scale: deployments.apps \"nowhere\" not found"
  wait_until 10 hpa_says odd 'no matches for kind "Odd" in group "example.com"'
  has 'spec.maxReplicas: Invalid value: 0: must be greater than 0' "$(k patch hpa lost --type merge -p '{"spec":{"maxReplicas":0}}' 2>&1)"
}

# Anything with a scale is scaled, and what its schema refuses is told.
test_autoscaler_of_a_custom_resource() {
  k apply -f - >/dev/null <<YAML
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boxes.$NS.example.com}
spec:
  group: $NS.example.com
  scope: Namespaced
  names: {plural: boxes, singular: box, kind: Box}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {replicas: {type: integer, maximum: 3}}}
          status: {type: object, properties: {replicas: {type: integer}, selector: {type: string}}}
YAML
  kubectl wait --for=condition=Established "crd/boxes.$NS.example.com" --timeout=10s >/dev/null
  k create -f - >/dev/null <<YAML
apiVersion: $NS.example.com/v1
kind: Box
metadata: {name: b}
spec: {replicas: 1}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: b}
spec: {scaleTargetRef: {apiVersion: $NS.example.com/v1, kind: Box, name: b}, minReplicas: 2, maxReplicas: 9}
YAML
  wait_until 20 field_is box b '.spec.replicas' 2
  k patch hpa b --type merge -p '{"spec":{"minReplicas":5}}' >/dev/null
  wait_until 20 hpa_says b 'the HPA controller was unable to update the target scale: Box.'
  field_is box b '.spec.replicas' 2
  field_is hpa b '.status.desiredReplicas' 2
  like 'FailedRescale +.*New size: 5; reason: Current number of replicas below Spec.MinReplicas; error: .*should be less than or equal to 3' "$(k describe hpa b)"
  has_not 'New size: 5; reason: Current number of replicas below Spec.MinReplicas$' "$(k describe hpa b | grep SuccessfulRescale)"
  k patch hpa b --type merge -p '{"spec":{"minReplicas":3}}' >/dev/null
  wait_until 20 field_is box b '.spec.replicas' 3
  hpa_says b 'the HPA controller was able to update the target scale to 3'
}
