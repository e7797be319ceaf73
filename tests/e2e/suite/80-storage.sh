# Persistent storage with the real kubectl: volumes made by hand, the class "local" on the nodes' disks, and a CSI driver (tests/e2e/csi) beside a node.
# shellcheck shell=bash

# name claim [node [more of the spec]]: a pod that has the claim at /data.
claim_pod() {
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  terminationGracePeriodSeconds: 0
  ${3:+nodeSelector: {kubernetes.io/hostname: $3\}}
  ${4:-}
  containers:
  - name: main
    image: $BUSYBOX
    command: [sleep, "3600"]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: $2}}]
YAML
}
ready() { k wait --for=condition=Ready "pod/$1" --timeout=60s >/dev/null; }
events_of() { k get events --field-selector "involvedObject.name=$1" -o 'jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}'; }
has_event() { like "$2" "$(events_of "$1")"; }
gone() { [ -z "$(kubectl get "$@" --ignore-not-found -o name)" ]; }

# name source [more of the spec]: a volume of this namespace alone.
static_volume() {
  kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: PersistentVolume
metadata: {name: $NS-$1}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: $NS
  $2
  ${3:-}
YAML
}
# name volume [class]: a claim for one volume, or for any of a class.
claim() {
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: $1}
spec:
  accessModes: [ReadWriteOnce]
  ${2:+volumeName: $2}
  ${3:+storageClassName: $3}
  resources: {requests: {storage: 1Gi}}
YAML
}
on_host() { echo "nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [$1]}]}]}}"; }

test_storage_static() {
  local node=$CLUSTER-worker-1
  trap 'kubectl delete pv "$NS-folder" "$NS-disk" "$NS-missing" --ignore-not-found --wait=false >/dev/null' EXIT
  on worker-1 -- mkdir -p "/var/lib/$NS-disk"
  static_volume folder "hostPath: {path: /var/lib/$NS-folder, type: DirectoryOrCreate}"
  static_volume disk "local: {path: /var/lib/$NS-disk}" "$(on_host "$node")"
  static_volume missing "local: {path: /var/lib/$NS-missing}" "$(on_host "$node")"
  for name in folder disk missing; do claim "$name" "$NS-$name" "$NS"; done
  for name in folder disk missing; do k wait --for=jsonpath='{.status.phase}'=Bound "pvc/$name" --timeout=30s >/dev/null; done
  claim_pod folder folder "$node"
  claim_pod disk disk "" 'securityContext: {fsGroup: 4711}'
  claim_pod missing missing
  ready folder
  ready disk
  is "$node" "$(field pod disk .spec.nodeName)" 'the volume decides on the node'
  k exec folder -- sh -c 'echo one >/data/file'
  k exec disk -- sh -c 'echo two >/data/file'
  is one "$(on worker-1 -- cat "/var/lib/$NS-folder/file")"
  is two "$(on worker-1 -- cat "/var/lib/$NS-disk/file")"
  is 4711 "$(k exec disk -- stat -c %g /data/file)" 'fsGroup'
  wait_until 20 has_event missing "FailedMount: MountVolume.SetUp failed for volume \"$NS-missing\" : path \"/var/lib/$NS-missing\" does not exist"
  on worker-1 -- mkdir -p "/var/lib/$NS-missing"
  ready missing
  k run part --image="$BUSYBOX" --restart=Never --overrides='{"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"part","image":"'"$BUSYBOX"'","command":["sleep","3600"],"volumeMounts":[{"name":"d","mountPath":"/part","subPath":"a/b"},{"name":"d","mountPath":"/whole"}]}],"volumes":[{"name":"d","persistentVolumeClaim":{"claimName":"disk"}}]}}' >/dev/null
  ready part
  k exec part -- sh -c 'echo three >/part/file'
  is three "$(k exec disk -- cat /data/a/b/file)" 'subPath'
  k delete pod folder disk missing part >/dev/null
  is two "$(on worker-1 -- cat "/var/lib/$NS-disk/file")" 'the data stays'
}

test_storage_local_class() {
  is true "$(kubectl get storageclass local -o 'jsonpath={.metadata.annotations.storageclass\.kubernetes\.io/is-default-class}')"
  k apply -f - >/dev/null <<YAML
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: db, image: $BUSYBOX, command: [sleep, "3600"], volumeMounts: [{name: data, mountPath: /data}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}
YAML
  k rollout status statefulset/db --timeout=90s >/dev/null
  local pv node before
  pv=$(field pvc data-db-0 .spec.volumeName)
  node=$(field pod db-0 .spec.nodeName)
  before=$(field pod db-0 .metadata.uid)
  is local "$(field pvc data-db-0 .spec.storageClassName)" 'the default class'
  is "/var/lib/kprov/volumes/$pv" "$(kubectl get pv "$pv" -o 'jsonpath={.spec.local.path}')"
  k exec db-0 -- sh -c 'echo kept >/data/file'
  is kept "$(on "${node#"$CLUSTER-"}" -- cat "/var/lib/kprov/volumes/$pv/file")"
  k delete pod db-0 >/dev/null
  wait_until 30 sh -c "[ \"\$('$KUBECTL' -n $NS get pod db-0 -o 'jsonpath={.metadata.uid}')\" != $before ]"
  ready db-0
  is kept "$(k exec db-0 -- cat /data/file)" 'a new pod has the data'
  is "$node" "$(field pod db-0 .spec.nodeName)" 'it is where its data is'
  k delete statefulset db >/dev/null
  k delete pvc data-db-0 data-db-1 >/dev/null
  wait_until 60 gone pv "$pv"
  wait_until 10 on "${node#"$CLUSTER-"}" -- test ! -e "/var/lib/kprov/volumes/$pv"
}

test_storage_waits_for_a_pod() {
  claim late ""
  sleep 2
  is Pending "$(field pvc late .status.phase)"
  wait_until 20 sh -c "'$KUBECTL' -n $NS get events --field-selector involvedObject.name=late | grep -q WaitForFirstConsumer"
  claim_pod user late "$CLUSTER-worker-2"
  ready user
  is "$CLUSTER-worker-2" "$(field pvc late '.metadata.annotations.volume\.kubernetes\.io/selected-node')"
  k delete pvc late --wait=false >/dev/null
  has kubernetes.io/pvc-protection "$(field pvc late .metadata.finalizers)"
  is writable "$(k exec user -- sh -c 'touch /data/x && echo writable')" 'a claim that is to go stays while a pod has it'
  k delete pod user >/dev/null
  wait_until 60 sh -c "[ -z \"\$('$KUBECTL' -n $NS get pvc late --ignore-not-found -o name)\" ]"
}

# The driver runs on this host, in the mount namespace of the machine worker-1 for what it mounts.
driver_up() {
  local pid
  pid=$(find "${KPROV_LOCAL_DIR:?}" -path '*worker-1/pid' -exec cut -d' ' -f1 {} +)
  timeout 300 /usr/bin/python3 tests/e2e/csi/driver.py --pid "$pid" --node "$CLUSTER-worker-1" --log "$DIR/csi-$NS.log" 2>"$DIR/csi-$NS.err" &
  DRIVER=$!
  wait_until 30 grep -q registered "$DIR/csi-$NS.log"
}
driver_down() { kill "$DRIVER" 2>/dev/null || true; wait "$DRIVER" 2>/dev/null || true; }
calls() { grep -c "^$1 " "$DIR/csi-$NS.log" || true; }
csi_node() { kubectl get csinode "$CLUSTER-worker-1" -o "jsonpath={.spec.drivers[?(@.name==\"dir.csi.test\")]$1}"; }

# Without a CSIDriver object volumes must be attached; the attacher is this test.
attached_by_hand() {
  local attachment in_use="kubernetes.io/csi/dir.csi.test^$NS-late"
  kubectl delete csidriver dir.csi.test >/dev/null
  static_volume late "csi: {driver: dir.csi.test, volumeHandle: $NS-late}"
  claim late "$NS-late" "$NS"
  claim_pod attached late "$CLUSTER-worker-1"
  by_volume() { kubectl get volumeattachments -o "jsonpath={.items[?(@.spec.source.persistentVolumeName==\"$NS-late\")].metadata.name}" | grep .; }
  used() { kubectl get node "$CLUSTER-worker-1" -o 'jsonpath={.status.volumesInUse}'; }
  wait_until 30 by_volume
  attachment=$(by_volume)
  wait_until 30 sh -c "'$KUBECTL' get node '$CLUSTER-worker-1' -o 'jsonpath={.status.volumesInUse}' | grep -qF '$in_use'"
  has_not "stage $NS-late" "$(cat "$DIR/csi-$NS.log")"
  kubectl patch volumeattachment "$attachment" --subresource=status --type=merge -p '{"status":{"attached":true}}' >/dev/null
  ready attached
  k exec attached -- touch /data/x
  k delete pod attached >/dev/null
  wait_until 60 gone volumeattachment "$attachment"
  has_not "$in_use" "$(used)"
  grep -q "^unstage $NS-late" "$DIR/csi-$NS.log"
}

test_storage_csi() {
  [ -n "${KPROV_LOCAL_DIR:-}" ] || skip 'the driver needs machines that are namespaces of this host'
  /usr/bin/python3 -c 'import grpc, grpc_tools' 2>/dev/null || skip 'no gRPC for Python: apt install python3-grpcio python3-grpc-tools'
  trap 'driver_down; kubectl delete pv "$NS-a" "$NS-late" "$NS-broken" --ignore-not-found --wait=false >/dev/null; kubectl delete csidriver dir.csi.test --ignore-not-found >/dev/null' EXIT
  like "^$CLUSTER-worker-1 " "$(kubectl get csinodes --no-headers)"
  kubectl apply -f - >/dev/null <<YAML
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: dir.csi.test}
spec: {attachRequired: false, podInfoOnMount: true, fsGroupPolicy: File, volumeLifecycleModes: [Persistent, Ephemeral]}
YAML
  k create secret generic key --from-literal=password=sesame >/dev/null
  static_volume a "csi: {driver: dir.csi.test, volumeHandle: $NS-a, fsType: ext4, nodePublishSecretRef: {name: key, namespace: $NS}}"
  static_volume broken "csi: {driver: dir.csi.test, volumeHandle: $NS-broken, volumeAttributes: {broken: \"yes\"}}"
  claim a "$NS-a" "$NS"
  claim broken "$NS-broken" "$NS"
  k wait --for=jsonpath='{.status.phase}'=Bound pvc/a pvc/broken --timeout=30s >/dev/null
  claim_pod first a "$CLUSTER-worker-1" 'securityContext: {fsGroup: 4711}'
  wait_until 30 has_event first 'FailedMount: MountVolume.MountDevice failed for volume ".*" : kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: driver name dir.csi.test not found in the list of registered CSI drivers'
  driver_up
  is "$CLUSTER-worker-1" "$(csi_node .nodeID)"
  is 5 "$(csi_node .allocatable.count)"
  is "$CLUSTER-worker-1" "$(kubectl get node "$CLUSTER-worker-1" -o 'jsonpath={.metadata.labels.topology\.dir\.csi\.test/node}')"
  ready first
  k exec first -- sh -c 'echo data >/data/file'
  is 4711 "$(k exec first -- stat -c %g /data/file)" 'fsGroup'
  has "publish $NS-a first rw sesame" "$(cat "$DIR/csi-$NS.log")"
  claim_pod second a "$CLUSTER-worker-1"
  ready second
  is data "$(k exec second -- cat /data/file)"
  is 1 "$(calls stage)" 'staged once for both'
  claim_pod broken broken "$CLUSTER-worker-1"
  wait_until 30 has_event broken 'FailedMount: MountVolume.SetUp failed for volume ".*" : rpc error: code = Internal desc = the volume is broken'
  on worker-1 -- sh -c 'for p in /proc/[0-9]*; do [ "$(cat "$p/comm")" != kubelet ] || kill "${p#/proc/}"; done' # its successor takes down what it mounted
  k delete pod first >/dev/null
  is 0 "$(calls unstage)"
  k delete pod second broken >/dev/null
  wait_until 30 grep -q "^unstage $NS-a" "$DIR/csi-$NS.log"
  wait_until 30 grep -q "^unstage $NS-broken" "$DIR/csi-$NS.log"
  is data "$(on worker-1 -- cat "/var/lib/dir.csi.test/$NS-a/file")"
  wait_until 10 sh -c "! '$KPROV' exec '$CLUSTER' worker-1 -- grep -q 'kubernetes.io.csi' /proc/mounts"
  k run scratch --image="$BUSYBOX" --restart=Never --overrides='{"spec":{"nodeSelector":{"kubernetes.io/hostname":"'"$CLUSTER"'-worker-1"},"terminationGracePeriodSeconds":0,"containers":[{"name":"scratch","image":"'"$BUSYBOX"'","command":["sleep","3600"],"volumeMounts":[{"name":"v","mountPath":"/v"}]}],"volumes":[{"name":"v","csi":{"driver":"dir.csi.test"}}]}}' >/dev/null
  ready scratch
  k exec scratch -- touch /v/x
  k delete pod scratch >/dev/null
  attached_by_hand
  driver_down
  wait_until 20 sh -c "[ -z \"\$('$KUBECTL' get csinode '$CLUSTER-worker-1' -o 'jsonpath={.spec.drivers[*].name}')\" ]"
}

# A volume that was provisioned and never mounted has no folder that reminds its node of it.
test_storage_that_was_never_mounted_goes_too() {
  local volume
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: unused, annotations: {volume.kubernetes.io/selected-node: $CLUSTER-worker-2}}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
YAML
  bound() { field_is pvc unused .status.phase Bound; }
  wait_until 20 bound
  volume=$(field pvc unused .spec.volumeName)
  is "$CLUSTER-worker-2" "$(kubectl get pv "$volume" -o 'jsonpath={.spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values[0]}')"
  k delete pvc unused --wait=false >/dev/null
  wait_until 40 gone pv "$volume"
}
