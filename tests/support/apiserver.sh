# shellcheck shell=bash
# A real etcd and API server on loopback, without a cluster: certificates in $DIR, programs of $BUILD/bin. In $DIR/N are admin.conf and ccm.conf,
# kubeconfigs of an administrator and of the service account cloud-controller-manager. Ports are fixed: run in a network namespace of one's own.
APISERVER_PIDS=()
apiserver_certificate() { # NAME SUBJECT [EXTENSIONS]
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$DIR/$1.key" -subj "$2" 2>/dev/null |
    openssl x509 -req -days 2 -CA "$DIR/ca.crt" -CAkey "$DIR/ca.key" -out "$DIR/$1.crt" -extfile <(printf '%s\n' "${3:-extendedKeyUsage=clientAuth}") 2>/dev/null
}
apiserver_kubeconfig() { # FOLDER NAME PORT
  cat <<YAML >"$1/$2.conf"
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:$3', certificate-authority: $DIR/ca.crt}}]
users: [{name: u, user: {client-certificate: $DIR/$2.crt, client-key: $DIR/$2.key}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
YAML
}
apiserver_certificates() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$DIR/ca.key" -out "$DIR/ca.crt" -days 2 -subj /CN=ca 2>/dev/null
  apiserver_certificate api /CN=kube-apiserver $'extendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1'
  apiserver_certificate admin /O=system:masters/CN=admin
  apiserver_certificate ccm /CN=system:serviceaccount:kube-system:cloud-controller-manager
  openssl ecparam -name prime256v1 -genkey -noout -out "$DIR/sa.key" 2>/dev/null
  openssl ec -in "$DIR/sa.key" -pubout -out "$DIR/sa.pub" 2>/dev/null
}
apiserver_start() { # N: in $DIR/N, at port 16000 + N
  local d=$DIR/$1 etcd=$((12000 + $1)) peer=$((13000 + $1)) port=$((16000 + $1))
  mkdir -p "$d"
  apiserver_kubeconfig "$d" admin $port
  apiserver_kubeconfig "$d" ccm $port
  "$BUILD/bin/etcd" --data-dir "$d/etcd" --listen-client-urls http://127.0.0.1:$etcd --advertise-client-urls http://127.0.0.1:$etcd \
    --listen-peer-urls http://127.0.0.1:$peer --initial-advertise-peer-urls http://127.0.0.1:$peer --initial-cluster default=http://127.0.0.1:$peer >"$d/etcd.log" 2>&1 &
  APISERVER_PIDS+=($!)
  "$BUILD/bin/kube-apiserver" --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port $port --etcd-servers http://127.0.0.1:$etcd \
    --client-ca-file "$DIR/ca.crt" --tls-cert-file "$DIR/api.crt" --tls-private-key-file "$DIR/api.key" --authorization-mode RBAC \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$DIR/sa.pub" --service-account-signing-key-file "$DIR/sa.key" \
    --service-cluster-ip-range 10.96.0.0/16 >"$d/api.log" 2>&1 &
  APISERVER_PIDS+=($!)
}
apiserver_ready() { curl -sf -m 1 --cacert "$DIR/ca.crt" --cert "$DIR/admin.crt" --key "$DIR/admin.key" "https://127.0.0.1:$((16000 + $1))/readyz" >/dev/null; }
apiserver_wait() { # N: for at most 30 s
  for _ in $(seq 300); do apiserver_ready "$1" && return; sleep 0.1; done
  echo 'the API server does not start:' >&2
  tail -n 5 "$DIR/$1/etcd.log" "$DIR/$1/api.log" >&2
  return 1
}
apiserver_stop() {
  local pid
  for pid in "${APISERVER_PIDS[@]}"; do kill "$pid" 2>/dev/null; done
  for pid in "${APISERVER_PIDS[@]}"; do wait "$pid" 2>/dev/null; done
}
