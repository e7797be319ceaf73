#!/bin/bash
# Logging in to a cluster's machines: kprov ssh by the user's ssh and without one, host keys that are pinned, no other way in.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
[ "$(id -u)" = 0 ] || { echo 'SKIP: machines of this host need root'; exit 77; }
for tool in ssh ssh-keyscan ssh-keygen; do command -v "$tool" >/dev/null || { echo "no $tool: make test-deps" >&2; exit 1; }; done
DIR=$(mktemp -d /tmp/e2e-ssh-XXXXXX)
export KPROV_STATE_DIR="$DIR/state of 100%" KPROV_LOCAL_DIR=$DIR/local HOME=$DIR/home KUBECONFIG=$DIR/kubeconfig
NAME=e2essh
cleanup() {
  "$KPROV" delete cluster $NAME --yes >/dev/null 2>&1
  rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 143' TERM INT
S=$KPROV_STATE_DIR/$NAME
kssh() { timeout 30 "$KPROV" ssh $NAME "$@"; }
# Another key and no pinned host key: what a stranger would try.
stranger() { timeout 20 ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$@"; }

timeout 120 "$KPROV" create cluster $NAME --workers 1 --kubeconfig "$KUBECONFIG" --wait 60s >"$DIR/create.log" 2>&1
result $? 'a cluster with one worker' "$(tail -n 3 "$DIR/create.log")"
[ $FAILED = 0 ] || exit 1
address() { "$KPROV" get nodes --cluster $NAME 2>/dev/null | awk -v n="$NAME-$1" '$1 == n { print $4 }'; }
CP=$(address cp-1)

is "$NAME-cp-1" "$(kssh cp-1 -- hostname)" 'kprov ssh runs a command on the control plane'
is "$NAME-worker-1" "$(kssh worker-1 -- cat /etc/hostname)" 'and on a worker'
is "a b|c'd|\$HOME" "$(kssh cp-1 -- printf '%s|%s|%s' 'a b' "c'd" '$HOME')" 'words arrive as they are'
is 'from here' "$(echo 'from here' | kssh cp-1 -- cat)" 'standard input arrives'
kssh cp-1 -- sh -c 'exit 42'
is 42 $? "the command's exit status is kprov's"
is ready "$(echo 'command -v kubelet >/dev/null && echo ready' | kssh cp-1 -- sh)" "the programs of the node are in the command's PATH"
is root "$(echo 'id -un' | kssh cp-1)" 'without a command it is a login shell of root'
is 600 "$(stat -c %a "$S/ssh_key")" 'the private key can be read by its owner alone'

mkdir -p "$DIR/no-ssh"
is "$NAME-cp-1" "$(env PATH="$DIR/no-ssh" "$KPROV" ssh $NAME cp-1 -- hostname)" 'without a program ssh the command runs all the same'
out=$(env PATH="$DIR/no-ssh" "$KPROV" ssh $NAME cp-1 2>&1)
rc=$?
[ $rc = 1 ] && [[ $out == *'install openssh-client'* ]]
result $? 'and a login says what to install' "$rc: $out"
env PATH="$DIR/no-ssh" "$KPROV" ssh $NAME cp-1 -- sh -c 'exit 43'
is 43 $? 'with its exit status'
is 3000000 "$(head -c 3000000 /dev/zero | env PATH="$DIR/no-ssh" "$KPROV" ssh $NAME cp-1 -- cat | wc -c)" 'and three megabytes both ways'

"$KPROV" ssh --print $NAME cp-1 >"$DIR/command" 2>&1
is "$NAME-cp-1" "$(eval "$(cat "$DIR/command") hostname")" 'the printed command logs in'

# The host key is the one that was derived before the machine was made.
shown=$(ssh-keyscan -t ed25519 "$CP" 2>/dev/null | awk '{print $3}')
pinned=$(awk -v n="$NAME-cp-1" '$1 == n {print $3}' "$S/ssh_known_hosts")
is "$shown" "$pinned" 'the machine has the host key that is pinned'
other=$(awk -v n="$NAME-worker-1" '$1 == n {print $3}' "$S/ssh_known_hosts")
[ -n "$other" ] && [ "$other" != "$pinned" ]
result $? 'each machine has its own'
is 1 "$(ssh-keyscan "$CP" 2>/dev/null | wc -l)" 'and no other kind'

cp "$S/ssh.json" "$DIR/ssh.json"
sed -i 's/"hostSecret": *"[^"]*"/"hostSecret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="/' "$S/ssh.json"
out=$(kssh cp-1 -- hostname 2>&1)
rc=$?
[ $rc = 255 ] && [[ $out == *'HOST IDENTIFICATION HAS CHANGED'* || $out == *'Host key verification failed'* ]]
result $? 'another host key than the pinned one is refused' "$rc: $out"
out=$(env PATH="$DIR/no-ssh" "$KPROV" ssh $NAME cp-1 -- hostname 2>&1)
rc=$?
[ $rc = 1 ] && [[ $out == *'is not the one that is known'* ]]
result $? 'without a program ssh as well' "$rc: $out"
cp "$DIR/ssh.json" "$S/ssh.json"
is "$NAME-cp-1" "$(kssh cp-1 -- hostname)" 'and the right one is taken again'

ssh-keygen -q -t ed25519 -N '' -f "$DIR/stranger"
! stranger -i "$DIR/stranger" -o IdentitiesOnly=yes "root@$CP" true 2>/dev/null
result $? 'a key that is not the cluster'\''s is refused'
out=$(stranger -o PubkeyAuthentication=no -v "root@$CP" true 2>&1)
[[ $out == *'Authentications that can continue: publickey'* && $out != *password* ]]
result $? 'there are no passwords' "$(grep -i authentications <<<"$out")"

"$KPROV" node stop $NAME worker-1 --force 2>/dev/null
out=$(kssh worker-1 -- true 2>&1)
[[ $? = 1 && $out == *"kprov node start $NAME"* ]]
result $? 'a machine that is off is named with the remedy' "$out"
timeout 60 "$KPROV" node start $NAME worker-1 2>/dev/null
for _ in $(seq 100); do kssh worker-1 -- true >/dev/null 2>&1 && break; sleep 0.1; done
is "$other" "$(ssh-keyscan -t ed25519 "$(address worker-1)" 2>/dev/null | awk '{print $3}')" 'it comes back with its host key'
for words in "$NAME" "$NAME no-such-node" 'no-such-cluster cp-1' "--bad $NAME cp-1"; do
  # shellcheck disable=SC2086 # a list of words
  timeout 20 "$KPROV" ssh $words >"$DIR/out" 2>&1
  rc=$?
  [ $rc = 1 ] || [ $rc = 2 ]
  result $? "kprov ssh $words is refused with $rc" "$(cat "$DIR/out")"
done
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
