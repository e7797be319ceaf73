#!/bin/bash
# One etcd member driven by Debian's etcdctl over mutual TLS: every command that a single member answers, error texts, signals, kill -9.
set -u
cd "$(dirname "$0")/../.." || exit 1
ETCD=$PWD/${BUILD:-build}/bin/etcd
for tool in etcdctl openssl curl; do
    command -v "$tool" >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }
done
DIR=$(mktemp -d /tmp/e2e-etcd-XXXXXX)
PID=
PASSED=0 FAILED=0
cleanup() {
    [ -n "$PID" ] && kill -9 "$PID" 2>/dev/null
    rm -rf "$DIR"
}
trap cleanup EXIT

# ---- certificates ---------------------------------------------------------------------------------------------------
(
    cd "$DIR" || exit 1
    ca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.crt"; }
    leaf() { # name ca usage
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" &&
            printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=%s\n' "$3" >"$1.ext" &&
            openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 2 -extfile "$1.ext" -out "$1.crt"
    }
    ca ca && ca stranger && leaf server ca serverAuth && leaf client ca clientAuth && leaf intruder stranger clientAuth
) >"$DIR/openssl.log" 2>&1 || { cat "$DIR/openssl.log"; exit 1; }
chmod 600 "$DIR"/*.key

free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}
PORT=$(free_port) PEER=$(free_port)
URL=https://127.0.0.1:$PORT

start() {
    "$ETCD" --name one --data-dir "$DIR/data" --listen-client-urls "$URL" --advertise-client-urls "$URL" \
        --listen-peer-urls "http://127.0.0.1:$PEER" --initial-advertise-peer-urls "http://127.0.0.1:$PEER" \
        --cert-file "$DIR/server.crt" --key-file "$DIR/server.key" --trusted-ca-file "$DIR/ca.crt" --client-cert-auth \
        --snapshot-count 500 "$@" 2>>"$DIR/log" &
    PID=$!
    for _ in $(seq 100); do
        ctl endpoint health >/dev/null 2>&1 && return 0
        kill -0 "$PID" 2>/dev/null || break
        sleep 0.05
    done
    echo "etcd does not come up:"
    tail "$DIR/log"
    exit 1
}
stop() { # signal
    kill "-$1" "$PID"
    wait "$PID" 2>/dev/null
    STATUS=$?
    PID=
}
export ETCDCTL_API=3
# In the background it is used as it is, so that what is killed is the program: of a function it would be the shell around it.
CTL=(timeout -k 2 20 etcdctl --endpoints "127.0.0.1:$PORT" --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key")
ctl() { "${CTL[@]}" "$@"; }

is() { # name expected actual
    if [ "$2" = "$3" ]; then
        PASSED=$((PASSED + 1))
    else
        FAILED=$((FAILED + 1))
        printf 'FAIL %s\n  expected: %s\n  got:      %s\n' "$1" "$2" "$3"
    fi
}
has() { # name text output
    case $3 in
    *"$2"*) PASSED=$((PASSED + 1)) ;;
    *)
        FAILED=$((FAILED + 1))
        printf 'FAIL %s\n  expected in it: %s\n  got: %s\n' "$1" "$2" "$3"
        ;;
    esac
}
lines() { printf '%s' "$*" | tr -s '\n ' ' ' | sed 's/ *$//'; }
revision() { ctl get none -w json | sed 's/.*"revision":\([0-9]*\).*/\1/'; }

# ---- flags ----------------------------------------------------------------------------------------------------------
has "unknown flag" "unknown" "$("$ETCD" --no-such-flag 2>&1)"
"$ETCD" --no-such-flag >/dev/null 2>&1 && is "unknown flag fails" nonzero zero
has "version" "etcd Version: 3." "$("$ETCD" --version)"
has "bad election timeout" "--election-timeout[100ms]" "$("$ETCD" --election-timeout 100 2>&1)"
has "bad cluster state" "must be new or existing" "$("$ETCD" --initial-cluster-state odd 2>&1)"
has "https without certificate" "needs a certificate" "$("$ETCD" --listen-client-urls https://127.0.0.1:1 2>&1)"
has "environment" "must be new or existing" "$(ETCD_INITIAL_CLUSTER_STATE=odd "$ETCD" 2>&1)"

start
# ---- key-value ------------------------------------------------------------------------------------------------------
is "put" "OK" "$(ctl put a 1)"
is "get" "a 1" "$(lines "$(ctl get a)")"
is "put again, previous value" "OK a 1" "$(lines "$(ctl put a 2 --prev-kv)")"
R=$(revision)
ctl put a 3 >/dev/null
is "get at a revision" "a 2" "$(lines "$(ctl get a --rev "$R")")"
for k in p/1 p/2 p/3 q; do ctl put "$k" "v-$k" >/dev/null; done
is "prefix" "p/1 v-p/1 p/2 v-p/2 p/3 v-p/3" "$(lines "$(ctl get p/ --prefix)")"
is "limit" "p/1 v-p/1" "$(lines "$(ctl get p/ --prefix --limit 1)")"
has "limit says more" '"more":true' "$(ctl get p/ --prefix --limit 1 -w json)"
is "sort" "p/3 p/2 p/1" "$(lines "$(ctl get p/ --prefix --keys-only --order DESCEND --sort-by KEY)")"
is "range" "p/1 p/2" "$(lines "$(ctl get p/1 p/3 --keys-only)")"
is "from key" "p/3 q" "$(lines "$(ctl get p/3 --from-key --keys-only)")"
is "serializable" "q v-q" "$(lines "$(ctl get q --consistency=s)")"
has "count only" '"count":3' "$(ctl get p/ --prefix --count-only -w json 2>/dev/null || ctl get p/ --prefix --keys-only -w json)"
is "delete" "1" "$(ctl del q)"
is "delete nothing" "0" "$(ctl del q)"
is "delete with previous" "1 p/1 v-p/1" "$(lines "$(ctl del p/1 --prev-kv)")"
is "delete prefix" "2" "$(ctl del p/ --prefix)"
is "binary and empty values" "e" "$(ctl put e "" >/dev/null && lines "$(ctl get e)")"
is "ignore value" "OK a 3" "$(lines "$(ctl put a --ignore-value) $(ctl get a)")"
has "ignore value of nothing" "etcdserver: key not found" "$(ctl put nothing --ignore-value 2>&1)"
has "empty key" "etcdserver: key is not provided" "$(ctl put "" x 2>&1)"
has "future revision" "etcdserver: mvcc: required revision is a future revision" "$(ctl get a --rev 99999 2>&1)"
has "too large" "etcdserver: request is too large" "$(head -c 1600000 /dev/zero | tr '\0' x | ctl put big 2>&1)"

# ---- transactions ---------------------------------------------------------------------------------------------------
is "txn success" "SUCCESS OK" "$(lines "$(printf 'value("a") = "3"\n\nput t yes\n\nput t no\n\n' | ctl txn)")"
is "txn failure" "FAILURE t yes" "$(lines "$(printf 'mod("a") = "1"\n\nput t never\n\nget t\n\n' | ctl txn)")"
is "txn create only once" "FAILURE OK" "$(lines "$(printf 'create("a") = "0"\n\nput a fresh\n\nput t2 old\n\n' | ctl txn)")"
has "txn duplicate key" "etcdserver: duplicate key given in txn request" "$(printf '\nput d 1\nput d 2\n\n\n' | ctl txn 2>&1)"
OPS=$(for i in $(seq 129); do echo "put k$i v"; done)
has "txn too many" "etcdserver: too many operations in txn request" "$(printf '\n%s\n\n\n' "$OPS" | ctl txn 2>&1)"

# ---- watch ----------------------------------------------------------------------------------------------------------
R=$(revision)
"${CTL[@]}" watch w --prefix --prev-kv >"$DIR/watch" 2>&1 &
WATCH=$!
sleep 0.5
ctl put w1 a >/dev/null
ctl put other x >/dev/null
ctl put w1 b >/dev/null
ctl del w1 >/dev/null
for _ in $(seq 40); do [ "$(grep -c . "$DIR/watch")" -ge 10 ] && break; sleep 0.05; done
kill "$WATCH"
wait "$WATCH" 2>/dev/null
is "watch" "PUT w1 a PUT w1 a w1 b DELETE w1 b w1" "$(lines "$(cat "$DIR/watch")")"
is "watch from a revision" "PUT w1 a PUT w1 b DELETE w1" \
    "$(lines "$(timeout 2 etcdctl --endpoints "127.0.0.1:$PORT" --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" watch w1 --rev "$((R + 1))")")"

# ---- leases ---------------------------------------------------------------------------------------------------------
LEASE=$(ctl lease grant 60 | sed 's/lease \([0-9a-f]*\) .*/\1/')
is "put with lease" "OK" "$(ctl put l1 x --lease "$LEASE")"
has "lease timetolive" "granted with TTL(60s)" "$(ctl lease timetolive "$LEASE")"
has "lease keys" "attached keys([l1])" "$(ctl lease timetolive "$LEASE" --keys)"
has "lease list" "$LEASE" "$(ctl lease list)"
has "keep alive" "keepalived with TTL(60)" "$(ctl lease keep-alive --once "$LEASE")"
has "lease revoke" "revoked" "$(ctl lease revoke "$LEASE")"
is "revoked keys are gone" "" "$(ctl get l1)"
has "lease not found" "etcdserver: requested lease not found" "$(ctl lease revoke 1234 2>&1)"
has "put with a lease that is none" "etcdserver: requested lease not found" "$(ctl put l2 x --lease 1234 2>&1)"
has "ttl of no lease" "already expired" "$(ctl lease timetolive 1234)"
LEASE=$(ctl lease grant 1 | sed 's/lease \([0-9a-f]*\) .*/\1/')
ctl put l3 x --lease "$LEASE" >/dev/null
sleep 3.5
is "an expired lease takes its keys" "" "$(ctl get l3)"

# ---- compaction and maintenance -------------------------------------------------------------------------------------
R=$(revision)
has "compaction" "compacted revision $R" "$(ctl compaction "$R" --physical)"
has "compacted read" "etcdserver: mvcc: required revision has been compacted" "$(ctl get a --rev "$((R - 1))" 2>&1)"
has "compact again" "etcdserver: mvcc: required revision has been compacted" "$(ctl compaction "$R" 2>&1)"
has "compact the future" "etcdserver: mvcc: required revision is a future revision" "$(ctl compaction 99999 2>&1)"
has "watch of compacted history" "required revision has been compacted" "$(ctl watch a --rev 1 2>&1)"
is "state survives compaction" "a 3" "$(lines "$(ctl get a)")"
has "endpoint status" "3.6.0" "$(ctl endpoint status -w json)"
has "endpoint health" "is healthy" "$(ctl endpoint health 2>&1)"
has "endpoint hashkv" "127.0.0.1:$PORT, " "$(ctl endpoint hashkv)"
has "member list" "started, one, http://127.0.0.1:$PEER, $URL" "$(ctl member list)"
has "defrag" "Finished defragmenting" "$(ctl defrag 2>&1)"
is "state survives defrag" "a 3" "$(lines "$(ctl get a)")"
is "no alarms" "" "$(ctl alarm list)"
has "snapshot save" "Snapshot saved" "$(ctl snapshot save "$DIR/snapshot" 2>&1)"
is "snapshot is whole" "32" "$(($(stat -c %s "$DIR/snapshot") % 4096))"
has "move leader to nobody" "etcdserver: bad leader transferee" "$(ctl move-leader 1234 2>&1)"
has "lock" "mutex/" "$(ctl lock mutex -- sh -c 'echo "$ETCD_LOCK_KEY"')"
is "lock is given back" "" "$(ctl get mutex/ --prefix)"
"${CTL[@]}" elect office candidate >"$DIR/elect" 2>&1 &
ELECT=$!
for _ in $(seq 40); do [ -s "$DIR/elect" ] && break; sleep 0.05; done
has "elect" "candidate" "$(cat "$DIR/elect")"
has "elect observed" "candidate" "$(timeout 1 etcdctl --endpoints "127.0.0.1:$PORT" --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" elect -l office)"
kill "$ELECT"
wait "$ELECT" 2>/dev/null

# ---- a watcher sees every event of a burst, once and in order ---------------------------------------------------------
"${CTL[@]}" watch burst/ --prefix >"$DIR/burst" 2>&1 &
WATCH=$!
sleep 0.3
for t in 1 2 3 4 5; do
    { echo; for i in $(seq 100); do echo "put burst/$t-$i $t.$i"; done; echo; echo; } | ctl txn >/dev/null
done
for _ in $(seq 60); do [ "$(grep -c PUT "$DIR/burst")" -ge 500 ] && break; sleep 0.05; done
kill "$WATCH"
wait "$WATCH" 2>/dev/null
is "burst of events" "$(for t in 1 2 3 4 5; do for i in $(seq 100); do echo "burst/$t-$i"; done; done | cksum)" "$(grep '^burst/' "$DIR/burst" | cksum)"
is "all of them deleted" "500" "$(ctl del burst/ --prefix)"

# ---- HTTP on the same port ------------------------------------------------------------------------------------------
http() { curl -s --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" "$@"; }
is "health" '{"health":"true","reason":""}' "$(http "$URL/health")"
is "livez" "ok" "$(http "$URL/livez")"
has "readyz" "[+]linearizable_read ok" "$(http "$URL/readyz?verbose")"
has "version" '"etcdserver":"3.' "$(http "$URL/version")"
has "metrics" "etcd_server_has_leader 1" "$(http "$URL/metrics")"
has "metrics of calls" 'grpc_method="Put",grpc_code="OK"' "$(http "$URL/metrics")"
is "no such page" "404" "$(http -o /dev/null -w '%{http_code}' "$URL/nothing")"

# ---- mutual TLS -----------------------------------------------------------------------------------------------------
timeout 5 etcdctl --endpoints "127.0.0.1:$PORT" --dial-timeout 1s --command-timeout 2s --cacert "$DIR/ca.crt" get a >/dev/null 2>&1
is "no client certificate" "refused" "$([ $? -ne 0 ] && echo refused)"
timeout 5 etcdctl --endpoints "127.0.0.1:$PORT" --dial-timeout 1s --command-timeout 2s --cacert "$DIR/ca.crt" \
    --cert "$DIR/intruder.crt" --key "$DIR/intruder.key" get a >/dev/null 2>&1
is "certificate of another CA" "refused" "$([ $? -ne 0 ] && echo refused)"
is "files are private" "700 600" "$(stat -c %a "$DIR/data" "$DIR/data/member/snap/db" | tr '\n' ' ' | sed 's/ $//')"

# ---- quota ----------------------------------------------------------------------------------------------------------
stop TERM
is "SIGTERM ends cleanly" "0" "$STATUS"
start --quota-backend-bytes 700000
has "quota" "etcdserver: mvcc: database space exceeded" "$(head -c 800000 /dev/zero | tr '\0' x | ctl put big 2>&1)"
has "alarm" "alarm:NOSPACE" "$(ctl alarm list)"
has "alarm refuses writes" "etcdserver: mvcc: database space exceeded" "$(ctl put a 4 2>&1)"
has "alarm in health" "ALARM NOSPACE" "$(http "$URL/health")"
has "alarm disarm" "alarm:NOSPACE" "$(ctl alarm disarm)"
is "writes again" "OK" "$(ctl put a 4)"

# ---- kill -9 under load: whatever was acknowledged is there afterwards ------------------------------------------------
stop TERM
start
writer() { # name: keys <name>-<n>, each written to a file once acknowledged
    local n=0
    while :; do
        n=$((n + 1))
        ctl put "$1-$n" "value-$1-$n" >/dev/null 2>&1 && echo "$1-$n" >>"$DIR/acknowledged-$1"
    done
}
for round in 1 2 3 4; do
    WRITERS=
    for w in 1 2 3; do
        writer "r$round-$w" &
        WRITERS="$WRITERS $!"
    done
    sleep "0.$((round * 2 + 1))"
    stop 9
    kill $WRITERS
    wait $WRITERS 2>/dev/null
    start
done
cat "$DIR"/acknowledged-* | sort >"$DIR/acknowledged"
ctl get r --prefix | paste - - | while read -r key value; do [ "$value" = "value-$key" ] && echo "$key"; done | sort >"$DIR/found"
is "every acknowledged put survives kill -9" "" "$(comm -23 "$DIR/acknowledged" "$DIR/found" | head -3)"
[ "$(wc -l <"$DIR/acknowledged")" -gt 20 ] || is "enough writes were made" "more than 20" "$(wc -l <"$DIR/acknowledged")"

# ---- a second process on the same data, a damaged log -----------------------------------------------------------------
has "data in use" "another process" "$(timeout 5 "$ETCD" --name one --data-dir "$DIR/data" --listen-client-urls http://127.0.0.1:0 --advertise-client-urls http://127.0.0.1:0 --initial-advertise-peer-urls "http://127.0.0.1:$PEER" 2>&1)"
is "the first goes on" "a 4" "$(lines "$(ctl get a)")"
RSS=$(awk '/VmRSS/ {print $2}' "/proc/$PID/status")
[ "$RSS" -lt 20000 ] || grep -q __asan_init "$ETCD" || is "resident memory in kB" "below 20000" "$RSS"
stop TERM
is "clean end" "0" "$STATUS"

echo "etcd: $PASSED passed, $FAILED failed; $(wc -l <"$DIR/acknowledged") acknowledged puts survived 4 kills; resident $RSS kB"
[ "$FAILED" -eq 0 ]
