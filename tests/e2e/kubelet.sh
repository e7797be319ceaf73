#!/bin/bash
# A kubelet alone, with a containerd of its own in a mount and network namespace: static pods from manifest to end, init containers,
# probes, restarts with back-off, logs, exec, kill -9 of the kubelet, and that nothing is left behind.
set -u
cd "$(dirname "$0")/../.." || exit 1
KUBELET=$PWD/${BUILD:-build}/bin/kubelet
PAUSE=$PWD/${BUILD:-build}/bin/pause
for tool in containerd ctr runc unshare nsenter curl; do
    command -v "$tool" >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }
done
[ "$(id -u)" = 0 ] || { echo "SKIP: needs root"; exit 77; }
[ -x /bin/busybox ] && [ -x /usr/lib/cni/bridge ] || { echo "SKIP: busybox-static or the CNI plugins are not installed"; exit 77; }
DIR=$(mktemp -d /tmp/e2e-kubelet-XXXXXX)
NODE= PASSED=0 FAILED=0

inside() { nsenter -t "$NODE" -m -n -p -- "$@"; }
cleanup() {
    if [ -n "$NODE" ]; then
        kill -9 "$NODE" 2>/dev/null # PID 1 of the namespace: everything in it ends with it
        wait "$NODE_JOB" 2>/dev/null
    fi
    rm -rf "$DIR"
    find /sys/fs/cgroup/*/kubepods -depth -type d -exec rmdir {} + 2>/dev/null # of this test: machines have theirs deeper
}
trap cleanup EXIT
check() { # what, status
    if [ "$2" = 0 ]; then PASSED=$((PASSED + 1)); else FAILED=$((FAILED + 1)); echo "FAILED: $1"; fi
}
eventually() { # seconds, what, command...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -ge $end ] && { check "$what" 1; return 1; }
        sleep 0.1
    done
    check "$what" 0
}

# ---- an OCI archive of one layer: file, reference, command ------------------------------------------------------------
image() { # out.tar reference command-json root
    local work=$DIR/image blob layer config manifest
    rm -rf "$work" && mkdir -p "$work/blobs/sha256"
    tar -C "$4" -cf "$work/layer" .
    blob() { local sum; sum=$(sha256sum "$1" | cut -d' ' -f1); mv "$1" "$work/blobs/sha256/$sum"; echo "$sum"; }
    layer=$(blob "$work/layer")
    printf '{"architecture":"amd64","os":"linux","config":{"Cmd":%s,"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$3" "$layer" >"$work/config"
    local config_size layer_size manifest_size
    config_size=$(stat -c %s "$work/config") layer_size=$(stat -c %s "$work/blobs/sha256/$layer")
    config=$(blob "$work/config")
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%s}]}' \
        "$config" "$config_size" "$layer" "$layer_size" >"$work/manifest"
    manifest_size=$(stat -c %s "$work/manifest")
    manifest=$(blob "$work/manifest")
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"io.containerd.image.name":"%s"}}]}' \
        "$manifest" "$manifest_size" "$2" >"$work/index.json"
    echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci-layout"
    tar -C "$work" -cf "$1" oci-layout index.json blobs
}
mkdir -p "$DIR"/{busybox/bin,busybox/tmp,busybox/etc,pause,manifests,cni,kubelet,logs}
cp /bin/busybox "$DIR/busybox/bin/" && for name in $(busybox --list | grep -vx busybox); do ln -s busybox "$DIR/busybox/bin/$name"; done
echo 'root:x:0:0::/:/bin/sh' >"$DIR/busybox/etc/passwd"
cp "$PAUSE" "$DIR/pause/pause" || { echo "build $PAUSE first"; exit 1; }
image "$DIR/busybox.tar" docker.io/library/busybox:e2e '["/bin/sh"]' "$DIR/busybox"
image "$DIR/pause.tar" kprov.local/pause:e2e '["/pause"]' "$DIR/pause"

# ---- the node ----------------------------------------------------------------------------------------------------------
cat >"$DIR/cni/10.conflist" <<E
{"cniVersion":"0.4.0","name":"e2e","plugins":[{"type":"bridge","bridge":"e2e0","isGateway":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.77.0/24"}]]}}]}
E
cat >"$DIR/containerd.toml" <<E
version = 2
root = "/run/e2e/root"
state = "/run/e2e/state"
oom_score = 0
[grpc]
  address = "/run/e2e/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  sandbox_image = "kprov.local/pause:e2e"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$DIR/cni"
E
cat >"$DIR/node" <<E
#!/bin/bash
mount --make-rprivate / && mount -t proc proc /proc && mount -t tmpfs tmpfs /run && mkdir -p /run/e2e /var/lib/cni /var/log/pods
mount -t tmpfs tmpfs /var/lib/cni && mount --bind "$DIR/logs" /var/log/pods && mount --make-rshared / && ip link set lo up
containerd --config "$DIR/containerd.toml" >"$DIR/containerd.log" 2>&1 &
while true; do sleep 1000 & wait -n; done
E
cat >"$DIR/kubelet.yaml" <<E
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}}
authorization: {mode: AlwaysAllow}
staticPodPath: $DIR/manifests
containerRuntimeEndpoint: unix:///run/e2e/containerd.sock
E
unshare -m -n -p --fork bash "$DIR/node" 2>"$DIR/node.log" &
NODE_JOB=$!
until NODE=$(pgrep -P $NODE_JOB) && [ -n "$NODE" ]; do sleep 0.05; done
CTR="inside ctr -a /run/e2e/containerd.sock -n k8s.io"
eventually 20 "containerd answers" $CTR version || { cat "$DIR/containerd.log"; exit 1; }
$CTR images import "$DIR/pause.tar" >/dev/null && $CTR images import "$DIR/busybox.tar" >/dev/null || exit 1
start_kubelet() {
    inside "$KUBELET" --config "$DIR/kubelet.yaml" --root-dir "$DIR/kubelet" --hostname-override n1 --node-ip 10.244.77.1 >>"$DIR/kubelet.log" 2>&1 &
    KUBELET_JOB=$!
}
api() { inside curl -sk --max-time 10 "https://127.0.0.1:10250$1" "${@:2}"; }
has() { api /pods | grep -q -- "$1"; }

# ---- the life of static pods -----------------------------------------------------------------------------------------------
start_kubelet
eventually 10 "healthz answers" inside curl -sf http://127.0.0.1:10248/healthz
cat >"$DIR/manifests/web.yaml" <<'E'
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: e2e, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: first, image: "busybox:e2e", command: [sh, -c, "echo page of $(NAME) > /data/index.html"], env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}], volumeMounts: [{name: data, mountPath: /data}]}
  containers:
  - {name: httpd, image: "busybox:e2e", command: [sh, -c, "echo serving; exec httpd -f -p 8080 -h /data"], readinessProbe: {httpGet: {path: /index.html, port: 8080}, periodSeconds: 1}, volumeMounts: [{name: data, mountPath: /data, readOnly: true}]}
  - {name: crash, image: "busybox:e2e", command: [sh, -c, "echo last words; exit 3"], terminationMessagePolicy: FallbackToLogsOnError}
  volumes: [{name: data, emptyDir: {medium: Memory}}]
E
eventually 20 "the pod runs" has '"phase":"Running"'
eventually 20 "httpd is ready" has '"name":"httpd","state":{"running":{[^}]*}},"lastState":{},"ready":true'
eventually 20 "the failing container backs off" has CrashLoopBackOff
eventually 5 "its end is told with its last words" has '"exitCode":3,"reason":"Error","message":"last words'
IP=$(api /pods | grep -o '"podIP":"[^"]*"' | head -1 | cut -d'"' -f4)
[ "$(inside curl -s --max-time 5 "http://$IP:8080/index.html")" = "page of web-n1" ]; check "the page that the init container wrote is served" $?
[ "$(api /containerLogs/e2e/web-n1/httpd)" = serving ]; check "logs" $?
[ "$(api '/containerLogs/e2e/web-n1/crash?previous=true&tailLines=1')" = "last words" ]; check "logs of the previous container" $?
api '/run/e2e/web-n1/httpd?cmd=cat+/etc/hosts' -X POST | grep -q "^$IP.web-n1$"; check "exec shows the managed hosts file" $?
api '/containerLogs/e2e/web-n1/none' -o /dev/null -w '%{http_code}' | grep -q 404; check "logs of an unknown container are refused" $?

# ---- kill -9 of the kubelet ----------------------------------------------------------------------------------------------------
running() { $CTR tasks ls | awk '/RUNNING/ {print $1, $2}' | sort; }
BEFORE=$(running)
VICTIM=$KUBELET_JOB # the last of the chain: shell, nsenter, kubelet
while CHILD=$(pgrep -P "$VICTIM"); do VICTIM=$CHILD; done
kill -9 "$VICTIM"
wait $KUBELET_JOB 2>/dev/null
[ "$(running)" = "$BEFORE" ]; check "containers survive the kubelet" $?
start_kubelet
eventually 10 "the kubelet comes back" inside curl -sf http://127.0.0.1:10248/healthz
eventually 10 "it finds the pod running" has '"phase":"Running"'
HTTPD=$(echo "$BEFORE" | head -1)
running | grep -q "${HTTPD%% *}"; check "it did not restart what ran" $?

# ---- the end ---------------------------------------------------------------------------------------------------------------------
rm "$DIR/manifests/web.yaml"
gone() { [ -z "$($CTR containers ls -q)" ] && [ -z "$(ls "$DIR/kubelet/pods" "$DIR/logs")" ]; }
gone_check() { [ -z "$(ls "$DIR/kubelet/pods")$(ls "$DIR/logs")" ]; }
eventually 20 "folders and logs are removed" gone_check
[ -z "$($CTR containers ls -q)" ]; check "no container is left" $?
inside grep -q "$DIR/kubelet/pods" /proc/mounts; [ $? = 1 ]; check "no mount is left" $?
[ $FAILED = 0 ] || tail -40 "$DIR/kubelet.log"
echo "kubelet: $PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
