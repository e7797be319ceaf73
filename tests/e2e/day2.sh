#!/bin/bash
# What an operator does on the second day: certificates listed, renewed and their authorities replaced while the API is used; etcd saved,
# by hand and by schedule, restored in place, and restored into a cluster of three new control planes, all under a writer.
# DAY2_CONTROL_PLANES=3 DAY2_AUTHORITIES='etcd front-proxy service-accounts' takes minutes; DAY2_PARTS='certificates snapshots' leaves out
# the authorities.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-/var/cache/kprov-tests/kubectl}
[ "$(id -u)" = 0 ] || { echo 'SKIP: machines of this host need root'; exit 77; }
for tool in "$KUBECTL" curl openssl; do command -v "$tool" >/dev/null || { echo "no $tool: make test-deps, tests/tools/fetch-clients" >&2; exit 1; }; done
DIR=$(mktemp -d /tmp/e2e-day2-XXXXXX)
export KPROV_STATE_DIR=$DIR/state KPROV_LOCAL_DIR=$DIR/local HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig
NAME=e2eday NEW=e2enew
CPS=${DAY2_CONTROL_PLANES:-1}
AUTHORITIES=${DAY2_AUTHORITIES:-service-accounts}
BUSYBOX=registry.kprov.dev/busybox:1.35
GAP_MS=${DAY2_GAP_MS:-5000}
cleanup() {
  rm -f "$DIR/asking"
  if [ $FAILED != 0 ] && [ -n "${KEEP_LOGS:-}" ]; then
    for node in cp-1 cp-2 worker-1; do for part in kubelet kube-apiserver kube-controller-manager; do "$KPROV" logs $NAME $node $part >"$KEEP_LOGS-$node-$part.log" 2>&1; done; done
  fi
  wait
  for cluster in $NAME $NEW; do "$KPROV" delete cluster $cluster --yes >/dev/null 2>&1; done
  rm -rf "$DIR"
}
trap cleanup EXIT
part() { case " ${DAY2_PARTS:-certificates authorities snapshots} " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
etcd_is_healthy() { [ "$("$KPROV" describe cluster "$1" 2>/dev/null | grep -c 'etcd member .*: healthy')" = "$2" ]; } # cluster, members
all_is_well() { # what, cluster, control planes, workers
  eventually 40 nodes_ready $(($3 + $4))
  result $? "$1: all nodes are Ready" "$(k get nodes 2>&1)"
  eventually 20 etcd_is_healthy "$2" "$3"
  result $? "$1: etcd has $3 healthy members" "$("$KPROV" describe cluster "$2" 2>&1 | grep etcd)"
}
served() { timeout 5 openssl s_client -connect "$1" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256; } # address:port
address() { "$KPROV" get nodes --cluster $NAME 2>/dev/null | awk -v n="$NAME-$1" '$1 == n { print $4 }'; }
nodes_ready() { [ "$(k get nodes --no-headers 2>/dev/null | grep -c ' Ready')" = "$1" ]; }
pods_work() { # every Deployment and DaemonSet is what it should be
  k -n kube-system rollout status daemonset/kube-proxy --timeout=1s && k -n kube-system rollout status deployment/kprov-dns --timeout=1s &&
    k rollout status deployment/web --timeout=1s
}

cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  controlPlane: {replicas: $CPS}
  etcd: {snapshots: {every: 5s, keep: 2}}
  nodePools:
  - {name: worker, replicas: 1}
YAML
"$KPROV" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait 90s >"$DIR/log" 2>&1
result $? "control planes ($CPS) and a worker are Ready" "$(tail -n 3 "$DIR/log")"
[ $FAILED = 0 ] || exit 1
k create deployment web --image=$BUSYBOX -- sleep 3600 >/dev/null
eventually 20 pods_work
result $? 'an application runs'

split_kubeconfig "$KUBECONFIG" "$DIR/before"
ca=$DIR/before/ca.crt crt=$DIR/before/client.crt key=$DIR/before/client.key
CERTS=$DIR/now API_SECONDS=2
cp -r "$DIR/before" "$DIR/now"
: >"$DIR/acked"
touch "$DIR/asking"
writer day "$DIR/asking" 0.05 &
ASKER=$!

# ---- certificates ---------------------------------------------------------------------------------------------------------
"$KPROV" certs list $NAME >"$DIR/certs" 2>"$DIR/err"
result $? 'certificates are listed' "$(cat "$DIR/err")"
count=$(grep -c 'yes$' "$DIR/certs")
[ "$count" = $((4 * CPS + 1)) ] && ! grep -qE 'no$|unknown$' "$DIR/certs"
result $? 'the certificate of every port is seen in use' "$(cat "$DIR/certs")"
"$KPROV" certs list $NAME -o json | grep -q '"residualSeconds"'
result $? 'and told as JSON'

one=$(address cp-1) worker=$(address worker-1)
api_before=$(served "$one:6443") etcd_before=$(served "$one:2379") kubelet_before=$(served "$worker:10250")
pod_before=$(k get pods -l app=web -o 'jsonpath={.items[0].metadata.uid}')
sleep 0.5
from=$(now_ms)
"$KPROV" certs renew $NAME >"$DIR/log" 2>&1
result $? 'certificates are renewed' "$(tail -n 5 "$DIR/log")"
tail -n 4 "$DIR/log"
gap=$(longest_gap "$from")
[ "$gap" -le "$GAP_MS" ]
result $? "the API takes writes all the while (longest gap $gap ms)"
[ "$(served "$one:6443")" != "$api_before" ] && [ "$(served "$one:2379")" != "$etcd_before" ] && [ "$(served "$worker:10250")" != "$kubelet_before" ]
result $? 'API server, etcd and kubelet serve new ones'
split_kubeconfig "$KUBECONFIG" "$DIR/renewed"
! cmp -s "$DIR/renewed/client.crt" "$DIR/before/client.crt" && k get nodes >/dev/null
result $? "the administrator's is new too, and works"
[ "$(k get pods -l app=web -o 'jsonpath={.items[0].metadata.uid}')" = "$pod_before" ] && eventually 20 k exec deployment/web -- true
result $? 'the application went on; kubectl exec reaches it through the renewed kubelet' "$(k get pods -o wide 2>&1)"
count=$("$KPROV" certs list $NAME 2>/dev/null | grep -c 'yes$')
[ "$count" = $((4 * CPS + 1)) ]
result $? 'every certificate on disk is the one in use' "$count"
all_is_well 'after the renewal' $NAME "$CPS" 1

if part authorities; then
# ---- authorities ----------------------------------------------------------------------------------------------------------
from=$(now_ms)
"$KPROV" certs rotate-ca $NAME --until trust >"$DIR/log" 2>&1
result $? 'a new authority is trusted beside the old one' "$(tail -n 5 "$DIR/log")"
[ "$(k config view --raw --minify -o 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d | grep -c BEGIN)" = 2 ] && k get nodes >/dev/null
result $? 'the kubeconfig trusts both'
curl -sf -m 5 --cacert "$ca" --cert "$crt" --key "$key" -o /dev/null "$SERVER/api/v1/nodes"
result $? 'the old kubeconfig works still'
cp "$DIR/kubeconfig" "$DIR/both.conf"
split_kubeconfig "$DIR/both.conf" "$DIR/both"
"$KPROV" certs rotate-ca $NAME --authority etcd >"$DIR/log" 2>&1
[ $? = 1 ] && grep -q 'authority cluster' "$DIR/log"
result $? 'another authority has to wait' "$(cat "$DIR/log")"
trusting() { rm -rf "$DIR/next" && cp -r "$1" "$DIR/next" && rm -rf "$DIR/now" && mv "$DIR/next" "$DIR/now"; }
trusting "$DIR/both"
"$KPROV" certs rotate-ca $NAME >"$DIR/log" 2>&1
result $? 'the same command goes on to the end' "$(tail -n 5 "$DIR/log")"
k get nodes >/dev/null
result $? 'the new kubeconfig works' "$(k get nodes 2>&1)"
all_is_well 'after the rotation' $NAME "$CPS" 1
split_kubeconfig "$KUBECONFIG" "$DIR/after"
trusting "$DIR/after"
[ "$(grep -c BEGIN "$DIR/after/ca.crt")" = 1 ] && ! cmp -s "$DIR/after/ca.crt" "$ca"
result $? 'it trusts the new authority alone'
status=$(curl -s -m 5 -o /dev/null -w '%{http_code}' --cacert "$DIR/after/ca.crt" --cert "$crt" --key "$key" "$SERVER/api/v1/nodes")
[ "$status" = 401 ] || [ "$status" = 000 ]
result $? 'the old client certificate is refused' "$status"
! curl -sf -m 5 --cacert "$ca" -o /dev/null "$SERVER/livez"
result $? 'what the API serves does not verify by the old authority'
eventually 30 pods_work && eventually 10 k exec deployment/web -- true
result $? 'pods work with the new authority' "$(k get pods -A -o wide 2>&1)"
for authority in $AUTHORITIES; do
  token=$(k create token default)
  "$KPROV" certs rotate-ca $NAME --authority $authority >"$DIR/log" 2>&1
  result $? "authority $authority is replaced" "$(tail -n 5 "$DIR/log")"
  all_is_well "authority $authority" $NAME "$CPS" 1
done
case " $AUTHORITIES " in *' service-accounts '*)
status=$(curl -s -m 5 -o /dev/null -w '%{http_code}' --cacert "$DIR/after/ca.crt" -H "Authorization: Bearer $token" "$SERVER/api/v1/namespaces/default")
[ "$status" = 401 ]
result $? 'a token of the old service-account key is refused' "$status" ;; esac
eventually 30 pods_work
result $? 'pods work with tokens of the new one' "$(k get pods -A -o wide 2>&1)"
fi
if ! part snapshots; then
  rm -f "$DIR/asking"
  wait $ASKER
  nothing_lost 'there at the end' "$SERVER"
  echo "$PASSED passed, $FAILED failed, 0 skipped"
  [ $FAILED = 0 ]
  exit
fi

# ---- snapshots ------------------------------------------------------------------------------------------------------------
UNTIL=$(now_ms) # what was written before is in every snapshot that has this one
k create configmap before --from-literal=a=1 >/dev/null
k create secret generic kept --from-literal=word=value >/dev/null
"$KPROV" etcd snapshot save $NAME "$DIR/saved.db" >"$DIR/log" 2>&1
result $? 'a snapshot is saved' "$(cat "$DIR/log")"
cat "$DIR/log"
TOKEN=$(k create token default)
"$KPROV" etcd snapshot save $NAME >/dev/null && "$KPROV" etcd snapshot list $NAME -o json | grep -q '"sha256"'
result $? 'snapshots of the state are listed'
"$KPROV" etcd snapshot save $NAME "$DIR/saved.db" >"$DIR/log" 2>&1
[ $? = 1 ] && grep -q 'already' "$DIR/log"
result $? 'a file that is there is not overwritten' "$(cat "$DIR/log")"
[ "$(stat -c %a "$DIR/saved.db" "$DIR/saved.db.json" | sort -u)" = 600 ]
result $? 'its files are for their owner alone'
scheduled() { "$KPROV" etcd snapshot list $NAME 2>/dev/null | awk -v n="$NAME-" 'index($2, n "cp-") == 1'; }
newer() { # a snapshot that cp-1 has taken since
  SCHEDULED=$(scheduled | awk -v n="$NAME-cp-1" -v r="$1" '$2 == n && $4 > r { print $1 }' | tail -n 1)
  [ -n "$SCHEDULED" ]
}
eventually 20 newer "$(k get configmap before -o 'jsonpath={.metadata.resourceVersion}')"
result $? 'every control plane takes snapshots by itself' "$("$KPROV" etcd snapshot list $NAME 2>&1)"
SAVED_AT=$(k get configmap before -o 'jsonpath={.metadata.resourceVersion}')
two_each() { [ "$(scheduled | awk '{ print $2 }' | sort | uniq -c | awk '$1 == 2' | wc -l)" = "$CPS" ]; }
eventually 15 two_each
result $? 'and keeps the newest two' "$(scheduled)"
[ "$("$KPROV" exec $NAME cp-1 -- sh -c 'cd /var/lib/etcd-snapshots && stat -c %a . *.db' | sort -u | tr '\n' ' ')" = '600 700 ' ]
result $? 'for root alone' "$("$KPROV" exec $NAME cp-1 -- ls -la /var/lib/etcd-snapshots)"
sed 's/every: 5s, keep: 2/every: 1h, keep: 2/' "$DIR/cluster.yaml" >"$DIR/hourly.yaml"
"$KPROV" apply -f "$DIR/hourly.yaml" --yes >"$DIR/log" 2>&1
result $? 'apply changes the schedule' "$(tail -n 3 "$DIR/log")"
told() { for node in $(seq -f cp-%g "$CPS"); do "$KPROV" logs $NAME $node etcd-snapshots | tail -n 1 | grep -q 'everySeconds="3600"' || return 1; done; }
eventually 10 told
result $? 'the machines are told, and none restarts' "$("$KPROV" logs $NAME cp-1 etcd-snapshots | tail -n 3)"
newer "$SAVED_AT"
"$KPROV" etcd snapshot fetch $NAME "$SCHEDULED" "$DIR/fetched.db" >"$DIR/log" 2>&1
result $? 'one of them is fetched' "$(cat "$DIR/log")"
[ "$(stat -c %a "$DIR/fetched.db" "$DIR/fetched.db.json" | sort -u)" = 600 ] && grep -q '"pki"' "$DIR/fetched.db.json"
result $? 'it comes with the keys'
"$KPROV" etcd snapshot fetch $NAME nothing.db >"$DIR/log" 2>&1
[ $? = 1 ] && grep -q 'kprov etcd snapshot list' "$DIR/log"
result $? 'a name that is none is refused' "$(cat "$DIR/log")"
rm -f "$DIR/asking"
wait $ASKER
nothing_lost 'there at the end' "$SERVER"
k delete configmap before >/dev/null
k create configmap after --from-literal=a=2 >/dev/null
k scale deployment web --replicas=3 >/dev/null
revision_before=$(k get configmap after -o 'jsonpath={.metadata.resourceVersion}')
size=$(stat -c %s "$DIR/saved.db")
head -c $((size / 2)) "$DIR/saved.db" >"$DIR/cut.db"
cp "$DIR/saved.db" "$DIR/bad.db"
printf x | dd of="$DIR/bad.db" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
for bad in cut bad; do
  "$KPROV" etcd snapshot restore $NAME "$DIR/$bad.db" --yes >"$DIR/log" 2>&1
  [ $? = 1 ] && grep -q 'cut or changed\|was it cut' "$DIR/log" && k get configmap after >/dev/null
  result $? "a snapshot that is $bad is refused before anything is stopped" "$(cat "$DIR/log")"
done
"$KPROV" etcd snapshot restore $NAME "$SCHEDULED" --yes >"$DIR/log" 2>&1
result $? 'what a control plane has taken by itself is restored in place' "$(tail -n 5 "$DIR/log")"
cat "$DIR/log"
nothing_lost 'there that came before the snapshot' "$SERVER" "$UNTIL"
all_is_well 'after the restore' $NAME "$CPS" 1
k get configmap before >/dev/null && ! k get configmap after >/dev/null 2>&1
result $? 'what is there is as it was at the snapshot'
[ "$(k get configmap before -o 'jsonpath={.metadata.resourceVersion}')" -le "$revision_before" ] &&
  [ "$(k create configmap again -o 'jsonpath={.metadata.resourceVersion}')" -gt "$revision_before" ]
result $? 'new revisions are above all that anyone has seen'
web_is_one() { [ "$(k get pods -l app=web --no-headers | grep -c Running)" = 1 ] && [ "$(k get pods -l app=web --no-headers | wc -l)" = 1 ]; }
eventually 30 nodes_ready $((CPS + 1)) && eventually 40 web_is_one && eventually 30 pods_work
result $? 'nodes are Ready, and the pods are those of the snapshot' "$(k get nodes,pods -A 2>&1)"
member_lists=$(for node in $(seq -f cp-%g "$CPS"); do "$KPROV" exec $NAME $node -- sh -c 'ls /var/lib/etcd'; done | sort | uniq -c | tr '\n' ' ')
case $member_lists in *"$CPS member "*"$CPS member.before "*) ok 'every member has the database, and keeps the one before' ;; *) not_ok 'every member has the database' "$member_lists" ;; esac
"$KPROV" delete cluster $NAME --yes >/dev/null 2>&1
result $? 'the cluster is deleted'
"$KPROV" create cluster $NEW --workers 1 --from-snapshot "$DIR/cut.db" --kubeconfig "$KUBECONFIG" >"$DIR/log" 2>&1
[ $? = 1 ] && ! "$KPROV" get clusters | grep -q $NEW
result $? 'no cluster is made from half a snapshot' "$(cat "$DIR/log")"
"$KPROV" create cluster $NEW --control-planes 3 --workers 1 --from-snapshot "$DIR/saved.db" --kubeconfig "$KUBECONFIG" --wait 60s >"$DIR/log" 2>&1
result $? 'a cluster of new machines with three control planes is made from the snapshot' "$(tail -n 5 "$DIR/log")"
tail -n 1 "$DIR/log"
split_kubeconfig "$KUBECONFIG" "$DIR/new"
CERTS=$DIR/new
all_is_well 'new machines' $NEW 3 1
k get configmap before >/dev/null && [ "$(k get secret kept -o 'jsonpath={.data.word}' | base64 -d)" = value ]
result $? 'all objects are there'
[ "$(k get nodes -o name | sort | tr '\n' ' ')" = "node/$NEW-cp-1 node/$NEW-cp-2 node/$NEW-cp-3 node/$NEW-worker-1 " ]
result $? 'its nodes are the new machines alone' "$(k get nodes 2>&1)"
eventually 40 pods_work && eventually 20 web_is_one && eventually 10 k exec deployment/web -- true
result $? 'the application runs on them' "$(k get pods -A -o wide 2>&1)"
name=$(curl -s -m 5 --cacert "$DIR/new/ca.crt" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -X POST \
  -d '{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}' "$SERVER/apis/authentication.k8s.io/v1/selfsubjectreviews" | tr -d ' \n')
case $name in *'"username":"system:serviceaccount:default:default"'*) ok 'a service account token of the old cluster is valid' ;; *) not_ok 'a service account token of the old cluster is valid' "$name" ;; esac
k create configmap gone --from-literal=a=2 >/dev/null
"$KPROV" etcd snapshot restore $NEW "$DIR/saved.db" --yes >"$DIR/log" 2>&1
result $? 'the snapshot is restored in place on three control planes' "$(tail -n 5 "$DIR/log")"
cat "$DIR/log"
k get configmap before >/dev/null && ! k get configmap gone >/dev/null 2>&1
result $? 'on all three'
all_is_well 'after that restore' $NEW 3 1
"$KPROV" delete cluster $NEW --yes >/dev/null 2>&1
result $? 'the new cluster is deleted'
[ -z "$(ls "$DIR/local" | grep -v '^lock$')" ]
result $? 'and nothing is left' "$(ls "$DIR/local")"
echo "$PASSED passed, $FAILED failed, 0 skipped"
[ $FAILED = 0 ]
