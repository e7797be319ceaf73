# Every kubectl command that the first cluster must answer, one test each.
# shellcheck shell=bash

test_nodes_are_ready() {
  is 'True True True' "$(kubectl get nodes -o 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}')"
  is 'control-plane' "$(kubectl get nodes --no-headers | awk '$1 ~ /cp-1/ {print $3}')" 'role of the control plane'
  has 'node-role.kubernetes.io/control-plane' "$(kubectl get node "$CLUSTER-cp-1" -o 'jsonpath={.spec.taints[*].key}')"
}

test_version() {
  local out
  out=$(kubectl version)
  has 'Client Version: v1.35.' "$out"
  has 'Server Version: v1.36.0' "$out"
}

test_cluster_info_and_health() {
  has 'Kubernetes control plane' "$(kubectl cluster-info)"
  is ok "$(kubectl get --raw /readyz)"
  is ok "$(kubectl get --raw /livez)"
  has 'apiserver_request' "$(kubectl get --raw /metrics)"
}

test_api_resources() {
  local out
  out=$(kubectl api-resources)
  like '^pods +po +v1 +true +Pod$' "$out"
  like '^deployments +deploy +apps/v1 +true +Deployment$' "$out"
  like '^nodes +no +v1 +false +Node$' "$out"
  like '^clusterroles +rbac.authorization.k8s.io/v1 +false +ClusterRole$' "$out"
  has 'create,delete,deletecollection,get,list,patch,update,watch' "$(kubectl api-resources -o wide)"
  like '^apps/v1$' "$(kubectl api-versions)"
}

test_explain() {
  local out
  out=$(kubectl explain pod.spec.containers.readinessProbe)
  has 'KIND:       Pod' "$out"
  has 'VERSION:    v1' "$out"
  has 'FIELD: readinessProbe <Probe>' "$out"
  like 'periodSeconds[[:space:]]+<integer>' "$out"
  has 'maxUnavailable' "$(kubectl explain deployment --recursive)"
}

test_get_wide_yaml_jsonpath() {
  sleeper looked-at
  local out
  out=$(k get pods)
  like '^NAME +READY +STATUS +RESTARTS +AGE' "$out"
  like '^looked-at +1/1 +Running +0 +[0-9]+s$' "$out"
  out=$(k get pods -o wide)
  like '^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE +NOMINATED NODE +READINESS GATES' "$out"
  like "looked-at .* 10\.244\.[0-9]+\.[0-9]+ +$CLUSTER-worker-[12] +<none> +<none>" "$out"
  out=$(k get pod looked-at -o yaml)
  has 'kind: Pod' "$out"
  has "image: $BUSYBOX" "$out"
  has 'phase: Running' "$out"
  is "looked-at $NS" "$(k get pod looked-at -o 'jsonpath={.metadata.name} {.metadata.namespace}')"
  is looked-at "$(k get pods -l run=looked-at -o name | sed 's|pod/||')"
  is '' "$(k get pods --field-selector status.phase=Failed -o name)"
  like '^looked-at +Running$' "$(k get pods -o custom-columns=N:.metadata.name,P:.status.phase --no-headers)"
}

test_get_watch() {
  timeout 20 "$KUBECTL" -n "$NS" get configmaps -w -o name >"$DIR/watch" 2>&1 &
  local watcher=$!
  wait_until 10 grep -q kube-root-ca.crt "$DIR/watch"
  k create configmap watched --from-literal=a=1 >/dev/null
  wait_until 5 grep -q configmap/watched "$DIR/watch"
  k delete configmap watched >/dev/null
  wait_until 5 sh -c "[ \$(grep -c configmap/watched '$DIR/watch') -ge 2 ]"
  kill $watcher
}

test_apply() {
  web_yaml 1 >"$DIR/web.yaml"
  has 'deployment.apps/web created' "$(k apply -f "$DIR/web.yaml")"
  has 'deployment.apps/web unchanged' "$(k apply -f "$DIR/web.yaml")"
  web_yaml 2 >"$DIR/web.yaml"
  k diff -f "$DIR/web.yaml" >"$DIR/diff" && fail 'diff finds no difference'
  has 'replicas: 2' "$(cat "$DIR/diff")"
  has 'deployment.apps/web configured' "$(k apply -f "$DIR/web.yaml")"
  field_is deployment web .spec.replicas 2
  has 'replicas' "$(k get deployment web -o 'jsonpath={.metadata.annotations.kubectl\.kubernetes\.io/last-applied-configuration}')"
}

test_apply_server_side() {
  local yaml='{apiVersion: v1, kind: ConfigMap, metadata: {name: owned}, data: {a: "1"}}' out
  has 'configmap/owned serverside-applied' "$(k apply --server-side --field-manager=one -f - <<<"$yaml")"
  if out=$(k apply --server-side --field-manager=two -f - <<<"${yaml/\"1\"/\"2\"}" 2>&1); then fail "no conflict: $out"; fi
  has 'conflict with "one"' "$out"
  has '.data.a' "$out"
  k apply --server-side --field-manager=two --force-conflicts -f - <<<"${yaml/\"1\"/\"2\"}" >/dev/null
  field_is configmap owned .data.a 2
  has two "$(k get configmap owned --show-managed-fields -o 'jsonpath={.metadata.managedFields[*].manager}')"
}

test_patch_strategic() {
  k apply -f - >/dev/null < <(web_yaml 1)
  k patch deployment web -p '{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"b"}]}]}}}}' >/dev/null
  field_is deployment web '.spec.template.spec.containers[0].env[0].value' b
  field_is deployment web '.spec.template.spec.containers[0].image' "$BUSYBOX"
}

test_patch_merge() {
  k create configmap patched --from-literal=a=1 --from-literal=b=2 >/dev/null
  k patch configmap patched --type=merge -p '{"data":{"a":null,"c":"3"}}' >/dev/null
  is '{"b":"2","c":"3"}' "$(field configmap patched .data)"
}

test_patch_json() {
  k create configmap patched --from-literal=a=1 >/dev/null
  k patch configmap patched --type=json -p '[{"op":"test","path":"/data/a","value":"1"},{"op":"replace","path":"/data/a","value":"2"},{"op":"add","path":"/data/b","value":"3"}]' >/dev/null
  is '{"a":"2","b":"3"}' "$(field configmap patched .data)"
  local out
  if out=$(k patch configmap patched --type=json -p '[{"op":"remove","path":"/data/nothing"}]' 2>&1); then fail "removed what is not there: $out"; fi
}

test_label_and_annotate() {
  k create configmap marked --from-literal=a=1 >/dev/null
  has 'configmap/marked labeled' "$(k label configmap marked colour=red)"
  local out
  if out=$(k label configmap marked colour=blue 2>&1); then fail "overwritten: $out"; fi
  k label configmap marked colour=blue --overwrite >/dev/null
  is marked "$(k get configmaps -l 'colour in (blue, green)' -o 'jsonpath={.items[*].metadata.name}')"
  k label configmap marked colour- >/dev/null
  is '' "$(k get configmaps -l colour -o name)"
  k annotate configmap marked note='two words' >/dev/null
  field_is configmap marked .metadata.annotations.note 'two words'
}

test_scale() {
  k apply -f - >/dev/null < <(web_yaml 1)
  k rollout status deployment/web --timeout=30s >/dev/null
  k scale deployment web --replicas=3 >/dev/null
  k wait deployment/web --for=jsonpath='{.status.readyReplicas}'=3 --timeout=30s >/dev/null
  k scale deployment web --current-replicas=3 --replicas=0 >/dev/null
  wait_until 20 sh -c "[ -z \"\$('$KUBECTL' -n $NS get pods -l app=web -o name)\" ]"
}

test_rollout_status_history_undo() {
  k apply -f - >/dev/null < <(web_yaml 2)
  has 'successfully rolled out' "$(k rollout status deployment/web --timeout=40s)"
  k set env deployment/web COLOUR=red >/dev/null
  has 'successfully rolled out' "$(k rollout status deployment/web --timeout=40s)"
  field_is deployment web '.spec.template.spec.containers[0].env[0].value' red
  like '^2 ' "$(k rollout history deployment/web)"
  has 'rolled back' "$(k rollout undo deployment/web)"
  k rollout status deployment/web --timeout=40s >/dev/null
  field_is deployment web '.spec.template.spec.containers[0].env' ''
  k rollout restart deployment/web >/dev/null
  k rollout status deployment/web --timeout=40s >/dev/null
  field_is deployment web .status.updatedReplicas 2
}

test_set_image() {
  k create deployment still --image="$PAUSE" >/dev/null
  k patch deployment still --type=json -p '[{"op":"add","path":"/spec/template/spec/containers/0/stdin","value":true},{"op":"add","path":"/spec/template/spec/terminationGracePeriodSeconds","value":1}]' >/dev/null
  k rollout status deployment/still --timeout=40s >/dev/null
  has 'image updated' "$(k set image deployment/still pause="$BUSYBOX")"
  k rollout status deployment/still --timeout=40s >/dev/null
  is "$BUSYBOX" "$(k get pods -l app=still --field-selector=status.phase=Running -o 'jsonpath={.items[?(@.metadata.deletionTimestamp=="")].spec.containers[0].image}{.items[0].spec.containers[0].image}' | grep -o "$BUSYBOX" | head -n 1)"
}

test_logs_follow() {
  k run counter --image="$BUSYBOX" --restart=Never --command -- sh -c 'for i in 1 2 3; do echo line $i; sleep 0.3; done' >/dev/null
  k wait --for=jsonpath='{.status.containerStatuses[0].started}' pod/counter --timeout=20s >/dev/null || true
  wait_until 20 k logs counter
  is 'line 1 line 2 line 3' "$(k logs -f counter | paste -sd ' ')"
  is 'line 3' "$(k logs --tail=1 counter)"
  like '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z line 1' "$(k logs --timestamps counter)"
  local out
  if out=$(k logs counter -c nobody 2>&1); then fail "logs of no container: $out"; fi
  has 'container nobody is not valid for pod counter' "$out"
}

test_exec_tty() {
  sleeper target
  is hello "$(k exec target -- echo hello)"
  is typed "$(echo typed | k exec -i target -- cat)"
  has /dev/pts/ "$(timeout 30 script -qec "'$KUBECTL' -n $NS exec -it target -- tty" /dev/null </dev/null)"
  local rc=0
  k exec target -- sh -c 'exit 7' 2>/dev/null || rc=$?
  is 7 $rc 'exit status'
  is out "$(k exec target -- sh -c 'echo out; echo err >&2' 2>/dev/null)"
}

test_cp() {
  sleeper target
  head -c 300000 /dev/urandom >"$DIR/sent"
  k cp "$DIR/sent" target:/tmp/there
  k cp target:/tmp/there "$DIR/back" >/dev/null
  cmp "$DIR/sent" "$DIR/back"
}

test_port_forward() {
  k apply -f - >/dev/null < <(web_yaml 1)
  k rollout status deployment/web --timeout=40s >/dev/null
  "$KUBECTL" -n "$NS" port-forward deployment/web :80 >"$DIR/forward" 2>&1 &
  local forward=$! port
  wait_until 10 grep -q Forwarding "$DIR/forward"
  port=$(sed -n 's/.*127.0.0.1:\([0-9]*\).*/\1/p' "$DIR/forward" | head -n 1)
  like '^web-' "$(curl -s -m 5 "http://127.0.0.1:$port/")"
  like '^web-' "$(curl -s -m 5 "http://127.0.0.1:$port/")"
  kill $forward
}

test_run_rm_interactive() {
  local out
  out=$(echo 'echo sum $((20+22))' | k run once --rm -i --image="$BUSYBOX" --restart=Never --command -- sh 2>&1)
  has 'sum 42' "$out"
  has 'pod "once" deleted' "$out"
  if out=$(k get pod once 2>&1); then fail "still there: $out"; fi
  has 'pods "once" not found' "$out"
}

test_describe_pod_and_deployment() {
  k apply -f - >/dev/null < <(web_yaml 1)
  k rollout status deployment/web --timeout=40s >/dev/null
  local out
  out=$(k describe deployment web)
  like 'Replicas: +1 desired \| 1 updated \| 1 total \| 1 available \| 0 unavailable' "$out"
  has 'ScalingReplicaSet' "$out"
  out=$(k describe pod -l app=web)
  like 'Status: +Running' "$out"
  like 'Ready +True' "$out"
  like 'Normal +Scheduled ' "$out"
  like 'Normal +Started ' "$out"
}

test_describe_says_why_a_pod_does_not_fit() {
  k run huge --image="$PAUSE" --restart=Never --overrides='{"spec":{"containers":[{"name":"huge","image":"'"$PAUSE"'","resources":{"requests":{"cpu":"5000"}}}]}}' >/dev/null
  wait_until 10 sh -c "'$KUBECTL' -n $NS describe pod huge | grep -q 'FailedScheduling.*0/3 nodes are available'"
  like '2 Insufficient cpu' "$(k describe pod huge)"
}

test_auth_can_i() {
  like '^\*\.\* +\[\] +\[\] +\[\*\]' "$(kubectl auth can-i --list)"
  is yes "$(k auth can-i create pods)"
  is no "$(k auth can-i create pods --as=system:serviceaccount:"$NS":default || true)"
  k create role reader --verb=get,list --resource=configmaps >/dev/null
  k create rolebinding reader --role=reader --serviceaccount="$NS:default" >/dev/null
  wait_until 5 k auth can-i list configmaps --as=system:serviceaccount:"$NS":default
  like '^configmaps +\[\] +\[\] +\[get list\]' "$(k auth can-i --list --as=system:serviceaccount:"$NS":default)"
  has 'Username' "$(kubectl auth whoami)"
}

test_create_token() {
  local token out
  token=$(k create token default --duration=10m)
  like '^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$' "$token"
  out=$(anonymous POST /apis/authentication.k8s.io/v1/selfsubjectreviews -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
    -d '{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}')
  like "system:serviceaccount:$NS:default" "$out"
  out=$(anonymous GET "/api/v1/namespaces/$NS/pods" -H "Authorization: Bearer $token")
  has "pods is forbidden: User \\\"system:serviceaccount:$NS:default\\\" cannot list resource \\\"pods\\\" in API group \\\"\\\" in the namespace \\\"$NS\\\"" "$out"
}

test_cronjob() {
  local job
  k create cronjob tick --image="$BUSYBOX" --schedule='@every 1s' -- sh -c 'date' >/dev/null
  wait_until 20 k get cronjob tick -o 'jsonpath={.status.lastScheduleTime}' >/dev/null
  made() { job=$(k get jobs -o 'jsonpath={.items[0].metadata.name}') && [ -n "$job" ]; }
  wait_until 20 made
  made
  like "^tick-[0-9]+\$" "$job"
  k wait --for=condition=Complete "job/$job" --timeout=40s >/dev/null
  is "CronJob tick true" "$(field job "$job" .metadata.ownerReferences[0].kind) $(field job "$job" .metadata.ownerReferences[0].name) $(field job "$job" .metadata.ownerReferences[0].controller)"
  like '^20[0-9-]+T[0-9:]+Z$' "$(field job "$job" '.metadata.annotations.batch\.kubernetes\.io/cronjob-scheduled-timestamp')"
  succeeded() { [ -n "$(field cronjob tick .status.lastSuccessfulTime)" ]; }
  wait_until 20 succeeded
  told() { k events --for cronjob/tick | grep -q "$1"; }
  wait_until 20 told "SuccessfulCreate.*Created job $job"
  wait_until 20 told "SawCompletedJob.*Saw completed job: $job, condition: Complete"
  k patch cronjob tick -p '{"spec":{"suspend":true,"timeZone":"Europe/Berlin","schedule":"30 4 * * mon-fri"}}' >/dev/null
  like '^tick +30 4 \* \* mon-fri +Europe/Berlin +True +0 ' "$(k get cronjob tick --no-headers)"
  k create job by-hand --from=cronjob/tick >/dev/null
  k wait --for=condition=Complete job/by-hand --timeout=40s >/dev/null
  has 'end of range (61) above maximum (59): 61' "$(k create cronjob bad --image=x --schedule='61 * * * *' 2>&1 || true)"
  has 'unknown time zone Mars/Olympus' "$(k patch cronjob tick -p '{"spec":{"timeZone":"Mars/Olympus"}}' 2>&1 || true)"
  k delete cronjob tick >/dev/null
  gone() { [ -z "$(k get jobs -o name)" ]; }
  wait_until 30 gone # the one made by hand as well: the CronJob owns it
}

test_pods_apart() {
  k apply -f - >/dev/null <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: apart}
spec:
  replicas: 3
  strategy: {type: Recreate} # those that are there would keep the new ones away
  selector: {matchLabels: {app: apart}}
  template:
    metadata: {labels: {app: apart}}
    spec:
      terminationGracePeriodSeconds: 0
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: apart}}}
      containers: [{name: c, image: $PAUSE}]
YAML
  wait_until 30 field_is deployment apart .status.readyReplicas 2
  told() { k get pods -l app=apart -o 'jsonpath={.items[*].status.conditions[?(@.reason=="Unschedulable")].message}' | grep -q "2 node(s) didn't match pod anti-affinity rules"; }
  wait_until 10 told
  is 2 "$(k get pods -l app=apart -o 'jsonpath={range .items[?(@.spec.nodeName)]}{.spec.nodeName}{"\n"}{end}' | sort -u | grep -c .)" 'each on a node of its own'
  # Room is made for the third where one goes.
  k delete pod "$(k get pods -l app=apart -o 'jsonpath={.items[?(@.spec.nodeName)].metadata.name}' | cut -d' ' -f1)" >/dev/null
  wait_until 30 field_is deployment apart .status.readyReplicas 2
  k patch deployment apart -p '{"spec":{"replicas":4,"template":{"spec":{"affinity":null,"topologySpreadConstraints":[{"topologyKey":"kubernetes.io/hostname","maxSkew":1,"whenUnsatisfiable":"DoNotSchedule","nodeTaintsPolicy":"Honor","labelSelector":{"matchLabels":{"app":"apart"}},"matchLabelKeys":["pod-template-hash"]}]}}}}' >/dev/null
  k rollout status deployment/apart --timeout=60s >/dev/null
  is '2 2' "$(k get pods -l app=apart --field-selector status.phase=Running -o 'jsonpath={range .items[?(@.spec.topologySpreadConstraints)]}{.spec.nodeName}{"\n"}{end}' | sort | uniq -c | awk '{print $1}' | xargs)" 'two on each node'
}

test_limit_range() {
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: LimitRange
metadata: {name: bounds}
spec:
  limits:
  - {type: Container, default: {memory: 32Mi}, defaultRequest: {cpu: 10m}, max: {memory: 64Mi}}
YAML
  has 'Container   memory    -    64Mi  32Mi             32Mi' "$(k describe limitrange bounds)"
  k run given --image="$PAUSE" >/dev/null
  is '{"limits":{"memory":"32Mi"},"requests":{"cpu":"10m","memory":"32Mi"}}' "$(field pod given .spec.containers[0].resources)" 'what is not said is given'
  has 'memory request for container given; memory limit for container given' "$(field pod given .metadata.annotations)"
  has 'pods "big" is forbidden: maximum memory usage per Container is 64Mi, but limit is 1Gi' "$(k run big --image="$PAUSE" --overrides '{"spec":{"containers":[{"name":"big","image":"'"$PAUSE"'","resources":{"limits":{"memory":"1Gi"}}}]}}' 2>&1)"
  wait_until 30 field_is pod given .status.phase Running
}

test_quota() {
  k create quota few --hard=pods=1,requests.cpu=100m,count/configmaps=2 >/dev/null
  wait_until 10 field_is resourcequota few .status.used '{"count/configmaps":"1","pods":"0","requests.cpu":"0"}' # kube-root-ca.crt
  runs() { k run "$1" --image="$PAUSE" --overrides '{"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"c","image":"'"$PAUSE"'","resources":{"requests":{'"$2"'}}}]}}' 2>&1; }
  has 'pods "a" is forbidden: failed quota: few: must specify requests.cpu for: c' "$(runs a '')"
  has 'exceeded quota: few, requested: requests.cpu=200m, used: requests.cpu=0, limited: requests.cpu=100m' "$(runs a '"cpu":"200m"')"
  is 'pod/a created' "$(runs a '"cpu":"60m"')"
  is '{"count/configmaps":"1","pods":"1","requests.cpu":"60m"}' "$(field resourcequota few .status.used)" 'the pod is charged at once'
  has 'exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1' "$(runs b '"cpu":"10m"')"
  k create configmap one >/dev/null
  has 'configmaps "two" is forbidden: exceeded quota: few, requested: count/configmaps=1, used: count/configmaps=2, limited: count/configmaps=2' "$(k create configmap two 2>&1)"
  k create deployment more --image="$PAUSE" >/dev/null # a controller is told as everybody is
  wait_until 10 field_is deployment more '.status.conditions[?(@.type=="ReplicaFailure")].reason' FailedCreate
  k delete deployment more >/dev/null
  wait_until 30 field_is pod a .status.phase Running
  k delete pod a >/dev/null
  k delete configmap one >/dev/null
  wait_until 10 field_is resourcequota few .status.used '{"count/configmaps":"1","pods":"0","requests.cpu":"0"}'
  is 'pod/b created' "$(runs b '"cpu":"100m"')"
  has 'pods              1     1' "$(k describe quota few)"
}

# Three pods want the same port of one node: the important one gets it, one that must not push waits.
test_preemption() {
  local class
  k create priorityclass "$NS-high" --value=1000 >/dev/null
  k create priorityclass "$NS-patient" --value=1000 --preemption-policy=Never >/dev/null
  wants_port() { # NAME CLASS
    k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  priorityClassName: $2
  hostNetwork: true
  nodeSelector: {kubernetes.io/hostname: $CLUSTER-worker-1}
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: $PAUSE, ports: [{containerPort: 31999}]}]
YAML
  }
  wants_port low ''
  wait_until 30 field_is pod low .status.phase Running
  wants_port patient "$NS-patient"
  told() { k get pod patient -o 'jsonpath={.status.conditions[?(@.reason=="Unschedulable")].message}' | grep -q "1 node(s) didn't have free ports for the requested pod ports.* preemption: not eligible due to preemptionPolicy=Never.$"; }
  wait_until 10 told
  is Running "$(field pod low .status.phase)" 'who must not push does not'
  wants_port high "$NS-high"
  wait_until 30 field_is pod high .status.phase Running
  is "$CLUSTER-worker-1" "$(field pod high .status.nominatedNodeName)" 'the node that was cleared for it'
  gone() { ! k get pod low >/dev/null 2>&1; }
  wait_until 10 gone
  has "Preempted by pod $(field pod high .metadata.uid) on node $CLUSTER-worker-1" "$(k get events --field-selector reason=Preempted -o 'jsonpath={.items[*].message}')"
  is Pending "$(field pod patient .status.phase)" 'equals do not push each other'
  for class in high patient; do k delete priorityclass "$NS-$class" >/dev/null; done
}

# What Prometheus does: the metrics of the scheduler and the controller manager, with a service account's token and the role for it.
test_component_metrics() {
  local token port pod component
  token=$(k create token default --duration=10m)
  k create clusterrole "$NS-metrics" --verb=get --non-resource-url=/metrics >/dev/null
  for component in kube-scheduler:10259 kube-controller-manager:10257; do
    pod=${component%:*}-$CLUSTER-cp-1
    kubectl -n kube-system port-forward "pod/$pod" ":${component#*:}" >"$DIR/$NS.forward" &
    forwarding=$!
    trap 'kill $forwarding' EXIT
    wait_until 10 grep -q Forwarding "$DIR/$NS.forward"
    port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$DIR/$NS.forward")
    metrics() { curl -sS -k -m 10 -w '\n%{http_code}' "https://127.0.0.1:$port$1" "${@:2}"; }
    has 'ok
200' "$(metrics /healthz)"
    has 'forbidden: User \"system:anonymous\" cannot get path \"/metrics\"' "$(metrics /metrics)"
    like '^401$' "$(metrics /metrics -H 'Authorization: Bearer nobody')"
    has "cannot get path \\\"/nothing\\\"" "$(metrics /nothing -H "Authorization: Bearer $token")"
    if [ "$component" = kube-scheduler:10259 ]; then
      has "forbidden: User \\\"system:serviceaccount:$NS:default\\\" cannot get path \\\"/metrics\\\"" "$(metrics /metrics -H "Authorization: Bearer $token")"
      k create clusterrolebinding "$NS-metrics" --clusterrole="$NS-metrics" --serviceaccount="$NS:default" >/dev/null
    fi
    may_read() { metrics /metrics -H "Authorization: Bearer $token" | grep -q '^200$'; }
    wait_until 20 may_read # a refusal counts for ten seconds
    like '^# TYPE ' "$(metrics /metrics -H "Authorization: Bearer $token")"
    like '^200$' "$(metrics /metrics --cert "$DIR/client.crt" --key "$DIR/client.key")"
    kill $forwarding
    wait $forwarding || true
    trap - EXIT
  done
  k delete clusterrolebinding,clusterrole "$NS-metrics" >/dev/null
}

test_wait() {
  k run slow --image="$BUSYBOX" --restart=Never --command -- sleep 1 >/dev/null
  has 'condition met' "$(k wait --for=jsonpath='{.status.phase}'=Succeeded pod/slow --timeout=20s)"
  local out
  if out=$(k wait --for=condition=Ready pod/slow --timeout=300ms 2>&1); then fail "a finished pod is ready: $out"; fi
  has 'timed out waiting for the condition' "$out"
  k delete pod slow --wait=false >/dev/null
  k wait --for=delete pod/slow --timeout=20s >/dev/null
}

test_delete_foreground() {
  k apply -f - >/dev/null < <(web_yaml 2)
  k rollout status deployment/web --timeout=40s >/dev/null
  k delete deployment web --cascade=foreground --timeout=40s >/dev/null
  is '' "$(k get replicasets,pods -l app=web -o name)" 'dependents go first'
}

test_delete_orphan() {
  k apply -f - >/dev/null < <(web_yaml 1)
  k rollout status deployment/web --timeout=40s >/dev/null
  local uid
  uid=$(field deployment web .metadata.uid)
  k delete deployment web --cascade=orphan >/dev/null
  is '' "$(k get deployments -o name)"
  is '' "$(k get replicasets -o 'jsonpath={.items[0].metadata.ownerReferences}')" 'the replica set has no owner'
  is 1 "$(k get pods -l app=web -o name | wc -l)"
  k apply -f - >/dev/null < <(web_yaml 1)
  wait_until 20 sh -c "'$KUBECTL' -n $NS get replicasets -o 'jsonpath={.items[*].metadata.ownerReferences[*].name}' | grep -qx web"
  [ "$uid" != "$(field deployment web .metadata.uid)" ] || fail 'the same uid again'
  is 1 "$(k get replicasets -o name | wc -l)" 'the orphan is adopted'
}

test_delete_background() {
  k apply -f - >/dev/null < <(web_yaml 1)
  k rollout status deployment/web --timeout=40s >/dev/null
  k delete deployment web >/dev/null
  wait_until 20 sh -c "[ -z \"\$('$KUBECTL' -n $NS get replicasets,pods -o name)\" ]"
}

test_namespace_delete_takes_everything() {
  kubectl create namespace "$NS-gone" >/dev/null
  wait_until 10 kubectl -n "$NS-gone" get serviceaccount default
  kubectl -n "$NS-gone" create configmap inside --from-literal=a=b >/dev/null
  kubectl delete namespace "$NS-gone" --timeout=30s >/dev/null
  local out
  if out=$(kubectl get namespace "$NS-gone" 2>&1); then fail "still there: $out"; fi
  has "namespaces \"$NS-gone\" not found" "$out"
}

test_job() {
  k create job once --image="$BUSYBOX" -- sh -c 'echo done' >/dev/null
  k wait --for=condition=Complete job/once --timeout=30s >/dev/null
  is done "$(k logs job/once)"
}

test_daemonset_runs_on_every_worker() {
  k apply -f - >/dev/null <<YAML
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: $PAUSE}]}
YAML
  k rollout status daemonset/everywhere --timeout=40s >/dev/null
  is "$CLUSTER-worker-1 $CLUSTER-worker-2" "$(k get pods -l app=everywhere -o 'jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort | paste -sd ' ')"
}

# Last of this file: it empties a worker for a while.
test_zz_drain() {
  k apply -f - >/dev/null < <(web_yaml 3)
  k rollout status deployment/web --timeout=40s >/dev/null
  has 'drained' "$(kubectl drain "$CLUSTER-worker-2" --ignore-daemonsets --delete-emptydir-data --force --grace-period=1 --timeout=60s 2>&1)"
  like "^$CLUSTER-worker-2 +Ready,SchedulingDisabled" "$(kubectl get nodes --no-headers)"
  k wait deployment/web --for=jsonpath='{.status.readyReplicas}'=3 --timeout=40s >/dev/null
  is "$CLUSTER-worker-1" "$(k get pods -l app=web -o 'jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u)"
  kubectl uncordon "$CLUSTER-worker-2" >/dev/null
}
