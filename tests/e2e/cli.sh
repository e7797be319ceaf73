#!/bin/bash
# kprov as its user sees it: what is refused before anything is made, help and completion, then one small cluster whose checks,
# description, events, support bundle and deletion are looked at, also under Ctrl-C.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
KUBECTL=${KUBECTL:-kubectl}
[ "$(id -u)" = 0 ] || { echo 'SKIP: machines of this host need root'; exit 77; }
for tool in "$KUBECTL" perl script; do command -v "$tool" >/dev/null || { echo "no $tool: make test-deps, tests/tools/fetch-clients" >&2; exit 1; }; done
DIR=$(mktemp -d /tmp/e2e-cli-XXXXXX)
export KPROV_STATE_DIR=$DIR/state KPROV_LOCAL_DIR=$DIR/local HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig
NAME=e2ecli
cleanup() {
  mountpoint -q "$DIR/small" && umount "$DIR/small"
  mountpoint -q "$DIR/readonly" && umount "$DIR/readonly"
  "$KPROV" delete cluster $NAME --yes >/dev/null 2>&1
  rm -rf "$DIR"
}
trap cleanup EXIT
json() { perl -MJSON::PP -0777 -e 'my $d = decode_json(<STDIN>); print eval $ARGV[0]; die $@ if $@' "$1"; } # expression over $d

# ---- refused, and nothing made ----------------------------------------------------------------------------------------------
nothing_made() { [ -z "$(ls -A "$DIR/state" "$DIR/local" 2>/dev/null | grep -vE ':$|^lock$|^$')" ]; }
refused() { # what, status, text that the message has, command...
  local what=$1 status=$2 text=$3 out rc
  shift 3
  out=$("$@" 2>&1 </dev/null)
  rc=$?
  if [ $rc = "$status" ] && [[ $out == *"$text"* ]] && nothing_made; then ok "refused: $what"; else not_ok "refused: $what" "status $rc, $out, $(ls -A "$DIR/state" 2>&1)"; fi
}
file() { # lines of spec
  printf 'apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: %s}\nspec:\n' $NAME >"$DIR/bad.yaml"
  printf '  %s\n' "$@" >>"$DIR/bad.yaml"
}
create_bad() { "$KPROV" create cluster -f "$DIR/bad.yaml" --kubeconfig "$KUBECONFIG"; }
refused 'an even number of control planes' 1 'take 5' "$KPROV" create cluster $NAME --control-planes 4
refused 'no control plane' 1 'must be 1, 3, 5 or 7, not 0' "$KPROV" create cluster $NAME --control-planes 0
refused 'too many workers' 1 'spec.nodePools[0].replicas: must be between 0 and 100, not 101' "$KPROV" create cluster $NAME --workers 101
refused 'a provider that is none' 1 'spec.provider: "mars"' "$KPROV" create cluster $NAME --provider mars
refused 'a name that is none' 1 'metadata.name: "E2E_"' "$KPROV" create cluster E2E_
refused 'an image that is not there' 1 'spec.image: there is no image "node-0123456789abcdef"' "$KPROV" create cluster $NAME --image node-0123456789abcdef
refused 'an image id that is none' 1 'spec.image: "latest" is no id' "$KPROV" create cluster $NAME --image latest
file 'controlPlanes: 3'
refused 'an unknown field, with its line' 1 'bad.yaml:5: unknown field "spec.controlPlanes": did you mean "controlPlane"?' create_bad
file 'network: {podCIDR: 10.96.0.0/16}'
refused 'pods and Services in one range' 1 'podCIDR 10.96.0.0/16 and serviceCIDR 10.96.0.0/12 overlap' create_bad
file 'network: {machineCIDR: 10.244.8.0/24}'
refused 'machines and pods in one range' 1 'machineCIDR 10.244.8.0/24 and podCIDR overlap' create_bad
route=$(ip -4 route show scope link | awk '$1 ~ /\// && $3 !~ /^kp/ {print $1; exit}')
if [ -n "$route" ]; then
  base=${route%%/*}
  file "network: {machineCIDR: ${base%.*}.0/24}"
  refused "a range that the host has a route to ($route)" 1 "which this host reaches through" create_bad
else
  echo '# no route of this host to overlap with'
fi
file 'nodePools: [{name: a, replicas: 101}]'
refused 'replicas out of range, with its line' 1 'bad.yaml:5: spec.nodePools[0].replicas: must be between 0 and 100, not 101' create_bad
refused 'a file that is not there' 1 'nowhere.yaml' "$KPROV" create cluster -f "$DIR/nowhere.yaml"
mkdir -p "$DIR/small" "$DIR/readonly"
mount -t tmpfs -o size=64k tmpfs "$DIR/small" && KPROV_STATE_DIR=$DIR/small/state refused 'a state folder without space' 1 'MiB are free: make room' "$KPROV" create cluster $NAME
KPROV_LOCAL_DIR=$DIR/small/local refused 'a machine folder without space' 1 "the cluster's machines needs" "$KPROV" create cluster $NAME
mount -t tmpfs -o ro tmpfs "$DIR/readonly" && KPROV_STATE_DIR=$DIR/readonly/state refused 'a state folder that cannot be written' 1 'is not writable' "$KPROV" create cluster $NAME
refused 'an unknown command' 2 'did you mean "create cluster"?' "$KPROV" craete cluster
refused 'half a command' 2 'get clusters, get nodes: say which' "$KPROV" get
refused 'an unknown flag' 2 'unknown flag: --wokers (see kprov create cluster --help)' "$KPROV" create cluster $NAME --wokers 2
refused 'an output that is none' 2 'must be table, json or yaml' "$KPROV" get clusters -o xml
refused 'a cluster that is not there' 1 'cluster "nope" does not exist: see kprov get clusters' "$KPROV" validate cluster nope
refused 'a bundle of one that is not there' 1 'cluster "nope" does not exist' "$KPROV" support-bundle nope -f "$DIR/nope.tar.gz"

# ---- help, documentation, completion ----------------------------------------------------------------------------------------
missing=''
while read -r command; do
  # shellcheck disable=SC2086 # words of a command
  help=$("$KPROV" $command --help 2>&1) && [[ $help == *Usage:*Examples:* ]] || missing="$missing; $command"
done < <(tests/tools/cli-docs --commands)
[ -z "$missing" ]
result $? 'every command has help with examples' "$missing"
tests/tools/cli-docs >"$DIR/cli.md" && diff "$DIR/cli.md" docs/cli.md >"$DIR/cli.diff"
result $? 'docs/cli.md is what tests/tools/cli-docs writes' "$(head -n 5 "$DIR/cli.diff")"

# ---- a cluster ----------------------------------------------------------------------------------------------------------------
cat >"$DIR/cluster.yaml" <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $NAME}
spec:
  deletionProtection: true
  nodePools:
  - {name: worker, replicas: 1}
YAML
# Ctrl-C in the middle, then the same command again.
"$KPROV" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait 90s >"$DIR/create.log" 2>&1 &
pid=$!
for _ in $(seq 100); do [ -s "$DIR/state/$NAME/journal" ] && break; sleep 0.05; done
sleep 0.3
kill -TERM $pid
wait $pid
rc=$?
[ $rc = 130 ] && grep -q 'the same command goes on from here' "$DIR/create.log"
result $? 'an interrupted creation ends with 130 and says how to go on' "$rc $(tail -n 3 "$DIR/create.log")"
"$KPROV" create cluster -f "$DIR/cluster.yaml" --kubeconfig "$KUBECONFIG" --wait 90s >"$DIR/create.log" 2>&1
result $? 'the same command finishes it' "$(tail -n 3 "$DIR/create.log")"
grep -qE "^\[ *[0-9.]+s\] $NAME-worker-1: Ready \([0-9.]+s\)$" "$DIR/create.log"
result $? 'piped, each machine has a plain line when it is Ready' "$(cat "$DIR/create.log")"
refused_here() { local out rc; out=$("${@:4}" 2>&1 </dev/null); rc=$?; [ $rc = "$2" ] && [[ $out == *"$3"* ]]; result $? "refused: $1" "status $rc, $out"; }
refused_here 'a name that is used' 1 'exists already: give the new one another name' "$KPROV" create cluster $NAME

"$KPROV" validate cluster $NAME --wait 60s -o json >"$DIR/validate.json" 2>"$DIR/validate.log"
result $? 'validate passes' "$(cat "$DIR/validate.log"; json 'join "; ", map { "$_->{name}: $_->{detail}" } grep { $_->{result} eq "failed" } @{$d->{checks}}' <"$DIR/validate.json")"
names=$(json 'join ",", map { $_->{name} } @{$d->{checks}}' <"$DIR/validate.json")
[ "$names" = 'machines,API servers,endpoint,nodes,etcd,clocks,leases,kube-system,certificates,snapshots,test pod,DNS,Service' ]
result $? 'it has a line for each check' "$names"
[ -z "$(k get namespaces -l kprov.dev/purpose=validate -o name)" ]
result $? 'its test pod is gone again'
"$KPROV" validate cluster $NAME >/dev/null 2>"$DIR/validate.log" &
pid=$!
for _ in $(seq 100); do [ -n "$(k get namespaces -l kprov.dev/purpose=validate -o name)" ] && break; sleep 0.05; done
kill -INT $pid 2>/dev/null
wait $pid
rc=$?
[ -z "$(k get namespaces -l kprov.dev/purpose=validate -o name)" ] && { [ $rc = 130 ] || [ $rc = 0 ]; }
result $? 'also when it is interrupted' "status $rc, $(cat "$DIR/validate.log") $(k get namespaces -o name)"

"$KPROV" describe cluster $NAME >"$DIR/tree" 2>&1 && grep -q "─ $NAME-cp-1 .* Ready" "$DIR/tree" && grep -q 'kube-apiserver  Running' "$DIR/tree" && grep -q 'etcd member .* healthy, leader' "$DIR/tree"
result $? 'describe shows machines, static pods and etcd as a tree' "$(cat "$DIR/tree")"
described=$("$KPROV" describe cluster $NAME -o json | json '"$d->{name} $d->{controlPlane}{machines}[0]{ready} $d->{pools}[0]{name} " . scalar(@{$d->{problems}})')
[ "$described" = "$NAME Ready worker 0" ]
result $? 'and as JSON' "$described"
"$KPROV" get nodes --cluster $NAME -o json | json 'join " ", map { "$_->{name}:$_->{role}:$_->{power}:$_->{ready}:$_->{version}" } @$d' >"$DIR/nodes"
grep -qE "^$NAME-cp-1:control-plane:on:True:v[0-9.]+[^ ]* $NAME-worker-1:worker:on:True:v" "$DIR/nodes"
result $? 'get nodes tells role, power, readiness and version' "$(cat "$DIR/nodes")"
[[ $("$KPROV" __complete -- logs $NAME) == *cp-1* ]] && [[ $("$KPROV" __complete -- validate cluster) == *$NAME* ]] && [[ $("$KPROV" __complete -- scale nodepool $NAME) == *worker* ]]
result $? 'completion knows clusters, nodes and pools'

"$KPROV" node stop $NAME worker-1 --force -o json | json '$d->{power}' >"$DIR/power" && [ "$(cat "$DIR/power")" = off ]
result $? 'node stop prints what it did' "$(cat "$DIR/power")"
"$KPROV" validate cluster $NAME >"$DIR/validate" 2>&1
[ $? = 1 ] && grep -qE "^machines +failed .*$NAME-worker-1 is off +kprov repair $NAME" "$DIR/validate"
result $? 'validate fails and says what helps when a worker is off' "$(cat "$DIR/validate")"
"$KPROV" events $NAME -o json | json 'my $b = 0; my $ok = 1; for (map { $_->{time} } @$d) { $ok = 0 if $_ lt $b; $b = $_ } my %s = map { ("$_->{source} $_->{reason}", 1) } @$d; ($ok && $s{"kprov kill-machine"} && $s{"machine PoweredOff"} && $s{"cluster Scheduled"}) ? "yes" : join ", ", keys %s' >"$DIR/events"
[ "$(cat "$DIR/events")" = yes ]
result $? 'events of kprov, machines and cluster come in one list by time' "$(cat "$DIR/events")"

# ---- the bundle ---------------------------------------------------------------------------------------------------------------
"$KPROV" support-bundle $NAME -f "$DIR/bundle.tar.gz" >"$DIR/bundle.log" 2>&1 && mkdir "$DIR/bundle" && tar -xzf "$DIR/bundle.tar.gz" -C "$DIR/bundle"
result $? 'a support bundle is written that tar reads' "$(cat "$DIR/bundle.log")"
lacking=''
for part in config.yaml state/cluster.json state/journal plan.json validate.json describe.json events.json etcd.json api/nodes.json api/pods.json api/events.json \
  machines/$NAME-cp-1/console.log machines/$NAME-cp-1/kprov/kubelet.log machines/$NAME-cp-1/system.txt machines/$NAME-worker-1/console.log host.txt errors.txt; do
  [ -s "$DIR/bundle/kprov-$NAME/$part" ] || lacking="$lacking $part"
done
ls "$DIR/bundle/kprov-$NAME/machines/$NAME-cp-1/pods" 2>/dev/null | grep -q kube-apiserver || lacking="$lacking apiserver-log"
[ -z "$lacking" ]
result $? 'with config, state, journal, results, logs and objects' "$lacking"
grep -q "worker-1: it is off" "$DIR/bundle/kprov-$NAME/errors.txt"
result $? 'and errors.txt lists the machine that is off' "$(cat "$DIR/bundle/kprov-$NAME/errors.txt")"
grep -rlE 'PRIVATE KEY|[Bb]earer [A-Za-z0-9._~-]{8}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}|LS0tLS1CRUdJTiB(QUklW|FQyBQ|SU0Eg)' "$DIR/bundle" >"$DIR/secrets"
[ ! -s "$DIR/secrets" ]
result $? 'no key and no token is in it' "$(cat "$DIR/secrets")"
key=$(sed -n 's/^ *client-key-data: //p' "$DIR/state/$NAME/admin.conf" | head -c 60)
[ -n "$key" ] && ! grep -rqF "$key" "$DIR/bundle"
result $? "nor the administrator's"

# ---- progress on a terminal --------------------------------------------------------------------------------------------------
"$KPROV" node start $NAME worker-1 2>/dev/null
TERM=xterm script -qec "stty cols 60; '$KPROV' scale nodepool $NAME worker --replicas 2 --wait 60s" "$DIR/typescript" >/dev/null 2>&1
grep -qa "$NAME-worker-2 .*boot" "$DIR/typescript" && grep -qa $'\033\[[0-9]*A' "$DIR/typescript" && grep -qa "$NAME-worker-2 .*Ready" "$DIR/typescript"
result $? 'on a terminal each machine has a line that is redrawn' "$(tail -c 600 "$DIR/typescript" | cat -v)"
NO_COLOR=1 TERM=xterm script -qec "'$KPROV' scale nodepool $NAME worker --replicas 1 --wait 60s" "$DIR/typescript" >/dev/null 2>&1
grep -qa "$NAME-worker-2 .*gone" "$DIR/typescript" && ! grep -qa $'\033\[3' "$DIR/typescript"
result $? 'and with NO_COLOR no colour' "$(tail -c 600 "$DIR/typescript" | cat -v)"

# ---- deletion -----------------------------------------------------------------------------------------------------------------
refused_here 'the deletion of a protected cluster' 1 'set spec.deletionProtection to false in its file, run kprov apply' "$KPROV" delete cluster $NAME --yes
sed -i 's/deletionProtection: true/deletionProtection: false/' "$DIR/cluster.yaml"
"$KPROV" apply -f "$DIR/cluster.yaml" --yes -o json >"$DIR/apply.json" 2>"$DIR/apply.log" && [ "$(json '$d->{changes}[0]{object}' <"$DIR/apply.json")" = spec.deletionProtection ]
result $? 'apply takes the protection away and prints what it changed' "$(tail -n 2 "$DIR/apply.log"; cat "$DIR/apply.json")"
refused_here 'a deletion without a yes' 2 'it asks for a yes: pass --yes' "$KPROV" delete cluster $NAME
"$KPROV" delete cluster $NAME --dry-run >"$DIR/dry" 2>&1 && grep -qE "^machine +$NAME-cp-1" "$DIR/dry" && [ "$("$KPROV" get nodes --cluster $NAME 2>/dev/null | grep -c ' on ')" = 2 ]
result $? 'a dry run lists what would go, and nothing goes' "$(cat "$DIR/dry")"
cp "$DIR/kubeconfig" "$DIR/before.conf"
"$KPROV" delete cluster $NAME --yes -o json >"$DIR/receipt.json" 2>"$DIR/delete.log"
result $? 'the cluster is deleted' "$(cat "$DIR/delete.log")"
receipt=$(json 'my %n; $n{$_->{object}}++ for @{$d->{removed}}; "$n{machine} machines, $n{address} addresses, $n{network} network, $n{context} context, $n{state} state, " . scalar(@{$d->{left}}) . " left"' <"$DIR/receipt.json")
[ "$receipt" = '2 machines, 2 addresses, 1 network, 1 context, 1 state, 0 left' ]
result $? 'the receipt lists what went' "$receipt"
grep -q "kprov-$NAME" "$DIR/before.conf" && ! grep -q "kprov-$NAME" "$DIR/kubeconfig" && nothing_made
result $? 'and nothing is left, in the kubeconfig neither'
echo "$PASSED passed, $FAILED failed, 0 skipped"
[ $FAILED = 0 ]
