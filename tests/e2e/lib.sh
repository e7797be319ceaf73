# What the cluster suites share: the cluster itself, one namespace a test, checks, waiting, and the run with its summary.
# A suite is a file of functions test_*; a test runs in a shell of its own with `set -e` and fails by its first failing command.
# shellcheck shell=bash

KPROV=$PWD/${BUILD:-build}/bin/kprov
CACHE=${KPROV_TEST_CACHE:-/var/cache/kprov-tests}
KUBECTL=${KUBECTL:-$CACHE/kubectl}
BUSYBOX=registry.kprov.dev/busybox:1.35
PAUSE=registry.kprov.dev/pause:3.10
# What the cluster audits, for suite/80-audit.sh; of its cluster file and of those that change it.
AUDIT='  audit:
    policy:
      apiVersion: audit.k8s.io/v1
      kind: Policy
      omitStages: [RequestReceived]
      omitManagedFields: true
      rules:
      - {level: Metadata, resources: [{resources: [secrets, pods/exec]}]}
      - {level: Metadata, verbs: [watch], userGroups: ["system:masters"]}
      - {level: RequestResponse, verbs: [create, update, patch, delete], resources: [{resources: [configmaps]}]}'

# ---- checks -------------------------------------------------------------------------------------------------------------
fail() { echo "FAILED: $*" >&2; exit 1; }
skip() { echo "$*"; exit 77; }
is() { [ "$1" = "$2" ] || fail "expected \"$1\", got \"$2\"${3:+ ($3)}"; }
has() { case $2 in *"$1"*) ;; *) fail "expected \"$1\" in: $2" ;; esac; } # text, whole
has_not() { case $2 in *"$1"*) fail "did not expect \"$1\" in: $2" ;; esac; }
like() { grep -qE -- "$1" <<<"$2" || fail "expected a match of /$1/ in: $2"; } # regular expression, whole
# wait_until SECONDS COMMAND...: the one way to wait; says what never came true.
wait_until() {
  local seconds=$1 end=$((SECONDS + $1)) out
  shift
  until out=$("$@" 2>&1); do
    [ $SECONDS -lt $end ] || fail "not within $seconds s: $*: $out"
    sleep 0.1
  done
}

# ---- clients ------------------------------------------------------------------------------------------------------------
kubectl() { timeout "${KUBECTL_TIMEOUT:-60}" "$KUBECTL" "$@"; }
k() { kubectl -n "$NS" "$@"; }
field() { k get "$1" "$2" -o "jsonpath={$3}"; } # resource, name, path
field_is() { is "$4" "$(field "$1" "$2" "$3")" "$1 $2 $3"; }
# The administrator's certificate, for requests that kubectl would not make. api METHOD PATH [curl arguments]: body, then the status.
api() { curl -sS -m 20 --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" -w '\n%{http_code}' -X "$1" "$SERVER$2" "${@:3}"; }
anonymous() { curl -sS -m 20 --cacert "$DIR/ca.crt" -w '\n%{http_code}' -X "$1" "$SERVER$2" "${@:3}"; }
split_kubeconfig() {
  local name
  for name in certificate-authority-data:ca.crt client-certificate-data:client.crt client-key-data:client.key; do
    "$KUBECTL" config view --raw --minify -o yaml | sed -n "s/^ *${name%%:*}: //p" | base64 -d >"$DIR/${name#*:}"
  done
  chmod 600 "$DIR/client.key"
  SERVER=$("$KUBECTL" config view --minify -o 'jsonpath={.clusters[0].cluster.server}')
}
on() { "$KPROV" exec "$CLUSTER" "$@"; } # node -- command
address() { kubectl get node "$CLUSTER-$1" -o 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}'; }

# ---- the cluster --------------------------------------------------------------------------------------------------------
# One control plane and two workers, unless E2E_KUBECONFIG names a cluster that runs already (E2E_CLUSTER is then its name).
cluster_up() {
  DIR=$(mktemp -d /tmp/e2e-XXXXXX)
  trap cluster_down EXIT
  trap 'exit 143' TERM INT
  if [ -n "${E2E_KUBECONFIG:-}" ]; then
    CLUSTER=${E2E_CLUSTER:-demo}
    export KUBECONFIG=$E2E_KUBECONFIG
  else
    CLUSTER=e2e
    export XDG_STATE_HOME=$DIR/state KPROV_LOCAL_DIR=$DIR/local KUBECONFIG=$DIR/kubeconfig HOME=$DIR
    unset KPROV_STATE_DIR
    cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $CLUSTER}
spec:
  nodePools:
  - {name: worker, replicas: 2}
$AUDIT
YAML
    if ! "$KPROV" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait 90s; then
      for node in cp-1 worker-1; do echo "---- log of $node"; "$KPROV" logs "$CLUSTER" "$node" 2>&1 | tail -n 20; done
      echo "not ok - kprov create cluster"
      echo "0 passed, 1 failed, 0 skipped"
      exit 1
    fi
  fi
  export KUBECONFIG
  split_kubeconfig
}
cluster_down() {
  # shellcheck disable=SC2046
  [ -z "$(jobs -p)" ] || kill $(jobs -p) 2>/dev/null
  [ -n "${E2E_KUBECONFIG:-}" ] || "$KPROV" delete cluster "$CLUSTER" --yes >/dev/null 2>&1
  rm -rf "$DIR"
}
# A namespace of the test's own, with the service account that pods need.
new_namespace() {
  kubectl create namespace "$NS" >/dev/null
  wait_until 10 kubectl -n "$NS" get serviceaccount default
}

# ---- the application that tests look at -----------------------------------------------------------------------------------
web_yaml() { # replicas
  cat <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: $1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: $BUSYBOX
        command: [sh, -c, 'mkdir -p /www && hostname > /www/index.html && exec httpd -f -p 80 -h /www']
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 80}]
YAML
}
sleeper() { # name [seconds]: a pod that runs until it is deleted
  k run "$1" --image="$BUSYBOX" --restart=Never --overrides='{"spec":{"terminationGracePeriodSeconds":0}}' --command -- sleep "${2:-3600}" >/dev/null
  k wait --for=condition=Ready "pod/$1" --timeout=30s >/dev/null
}

# ---- running ------------------------------------------------------------------------------------------------------------
# One test, in the shell that calls: its namespace, its output in $DIR/log-N, and how it ended and how long it took in $DIR/end-N.
run_test() { # number name
  local start rc
  NS=e2e-$1
  start=$(date +%s%N)
  (
    set -e
    new_namespace
    "$2"
  ) >"$DIR/log-$1" 2>&1
  rc=$?
  kubectl delete namespace "$NS" --wait=false >/dev/null 2>&1
  echo "$rc $((($(date +%s%N) - start) / 1000000))" >"$DIR/end-$1"
}
# Prints how it ended and counts it.
tell_test() { # number name
  local rc=1 ms=0 log=$DIR/log-$1 name=${2#test_}
  read -r rc ms <"$DIR/end-$1"
  case $rc in
  0) passed=$((passed + 1)) && echo "ok $1 - $name ($ms ms)" ;;
  77) skipped=$((skipped + 1)) && echo "ok $1 - $name # SKIP $(tail -n 1 "$log")" ;;
  *)
    failed=$((failed + 1))
    echo "not ok $1 - $name ($ms ms)"
    tail -n 30 "$log" | sed 's/^/    /'
    ;;
  esac
}
# run_tests: every test_* function in the order of the files; E2E_TEST=part picks by name. Those called test_beside_* wait most of their time: they
# begin when it is their turn, run beside what follows, and are told of at the end.
run_tests() {
  local number=0 passed=0 failed=0 skipped=0 name beside=()
  shopt -s extdebug
  for name in $(declare -F | awk '$3 ~ /^test_/ {print $3}' | while read -r f; do declare -F "$f"; done | sort -k3,3 -k2,2n | awk '{print $1}'); do
    case $name in *"${E2E_TEST:-}"*) ;; *) continue ;; esac
    shopt -u extdebug
    number=$((number + 1))
    case $name in
    test_beside_*)
      run_test "$number" "$name" &
      beside+=("$! $number $name")
      ;;
    *)
      run_test "$number" "$name"
      tell_test "$number" "$name"
      ;;
    esac
  done
  for name in ${beside[@]+"${beside[@]}"}; do
    # shellcheck disable=SC2086
    set -- $name
    wait "$1"
    tell_test "$2" "$3"
  done
  echo "1..$number"
  echo "$passed passed, $failed failed, $skipped skipped"
  [ $failed -eq 0 ] && [ $passed -gt 0 ]
}
