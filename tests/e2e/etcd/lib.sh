# What the etcd suites share: certificates, members as processes on loopback ports, clients of two versions, checks, and the
# run with its summary. ETCD=file picks the server under test; the default is ours, a stock one serves as the reference.
# A suite is a file of functions test_*; a test runs in a shell of its own with `set -e` and fails by its first failing command.
# shellcheck shell=bash

ROOT=$PWD
ETCD=${ETCD:-$ROOT/${BUILD:-build}/bin/etcd}
CACHE=${KPROV_TEST_CACHE:-/var/cache/kprov-tests}
LOG_LINES=15

# ---- checks -------------------------------------------------------------------------------------------------------------
fail() { echo "FAILED: $*" >&2; exit 1; }
is() { [ "$1" = "$2" ] || fail "expected \"$1\", got \"$2\"${3:+ ($3)}"; }
has() { case $2 in *"$1"*) ;; *) fail "expected \"$1\" in: $2" ;; esac; } # text, whole
has_not() { case $2 in *"$1"*) fail "did not expect \"$1\" in: $2" ;; esac; }
like() { grep -qE -- "$1" <<<"$2" || fail "expected a match of /$1/ in: $2"; } # regular expression, whole
lines() { printf '%s' "$*" | tr -s '\n ' ' ' | sed 's/^ //; s/ *$//'; } # all on one line
# refused TEXT COMMAND...: the command fails and says the text.
refused() {
  local out
  if out=$("${@:2}" 2>&1); then fail "not refused: ${*:2}: $out"; fi
  has "$1" "$out"
}
# wait_until SECONDS COMMAND...: the one way to wait; says what never came true.
wait_until() {
  local seconds=$1 end=$((SECONDS + $1)) out
  shift
  until out=$("$@" 2>&1); do
    [ $SECONDS -lt $end ] || fail "not within $seconds s: $*: $out"
    sleep 0.05
  done
}
file_has() { grep -qF -- "$2" "$1"; } # file, text
file_lines() { [ "$(grep -c . "$1")" -ge "$2" ]; }
# ended PID: gone, or dead and nobody asked after it.
ended() { [ ! -e "/proc/$1" ] || grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }

# ---- what the suites stand on -------------------------------------------------------------------------------------------
# etcd_begin: the scratch folder, certificates and clients. Needs Debian's etcdctl and the newer one of tests/tools/fetch-etcd.
etcd_begin() {
  local tool
  for tool in etcdctl openssl curl; do
    command -v "$tool" >/dev/null || { echo "no $tool: tests/tools/fetch-clients and make test-deps bring it" >&2; exit 1; }
  done
  [ -x "$ETCD" ] || { echo "no $ETCD: build it, or name one with ETCD=" >&2; exit 1; }
  STOCK=$(tests/tools/fetch-etcd) || { echo 'no newer stock etcd to compare with' >&2; exit 1; }
  CTL_OLD=$(command -v etcdctl) CTL_NEW=$STOCK/etcdctl CTL=$CTL_NEW
  export ETCDCTL_API=3
  DIR=$(mktemp -d /tmp/etcd-suite-XXXXXX)
  trap etcd_end EXIT
  trap 'exit 143' TERM INT
  etcd_certificates >"$DIR/openssl.log" 2>&1 || { cat "$DIR/openssl.log" >&2; exit 1; }
  # The stock server has no sub-commands; its etcdutl does what ours does itself.
  if [ "$ETCD" = "$STOCK/etcd" ]; then UTL=$STOCK/etcdutl; else UTL=$ETCD; fi
  PEER_PORT=() CLIENT_PORT=() BACKGROUND=()
}
etcd_end() {
  local file
  for file in "$DIR"/*.pid; do [ ! -e "$file" ] || kill -9 "$(cat "$file")" 2>/dev/null; done
  background_end
  if mountpoint -q "$DIR/small" 2>/dev/null; then umount -l "$DIR/small"; fi
  if [ -n "${KEEP:-}" ]; then echo "kept: $DIR"; else rm -rf "$DIR"; fi
}
etcd_certificates() (
  cd "$DIR" || exit 1
  ca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.crt"; }
  leaf() { # name ca usage
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" &&
      printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=%s\n' "$3" >"$1.ext" &&
      openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 2 -extfile "$1.ext" -out "$1.crt"
  }
  ca ca && ca peer-ca && ca stranger && leaf server ca serverAuth,clientAuth && leaf client ca clientAuth && leaf alice ca clientAuth &&
    leaf peer peer-ca serverAuth,clientAuth && leaf intruder stranger serverAuth,clientAuth && chmod 600 ./*.key
)
# background FILE COMMAND...: runs it with its output into the file until it, or the test, ends; its id is in BG.
background() {
  "${@:2}" >"$1" 2>&1 </dev/null 9>&- &
  BG=$!
  BACKGROUND+=("$BG")
}
background_end() {
  local pid
  for pid in "${BACKGROUND[@]}"; do kill "$pid" 2>/dev/null || :; done
  BACKGROUND=()
}
# One that nobody listens on, and that was not given to a member which has not started yet.
free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); grep -qsx "$port" "$DIR/ports" || (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port" | tee -a "$DIR/ports"
}

# ---- members ------------------------------------------------------------------------------------------------------------
# new_cluster N [flags]: N fresh members m1..mN of one cluster, all of them serving, and of no other.
new_cluster() {
  cluster_stop
  rm -rf "$DIR"/m[0-9]*
  MEMBERS=$1
  cluster_of "$(seq "$1")" "${@:2}"
}
# cluster_of NUMBERS [flags]: members of these numbers, one cluster; its endpoints in EP, --initial-cluster in INITIAL.
cluster_of() {
  local i
  TOKEN=token-$RANDOM INITIAL='' EP=''
  for i in $1; do
    CLIENT_PORT[i]=$(free_port) PEER_PORT[i]=$(free_port)
    INITIAL+=${INITIAL:+,}m$i=$(peer_url "$i")
    EP+=${EP:+,}$(endpoint "$i")
  done
  for i in $1; do member_start "$i" --initial-cluster "$INITIAL" --initial-cluster-state new "${@:2}"; done
  (wait_until 30 all_healthy) || { for i in $1; do echo "---- m$i"; member_log "$i"; done; exit 1; }
}
endpoint() { echo "https://127.0.0.1:${CLIENT_PORT[$1]}"; }
peer_url() { echo "https://127.0.0.1:${PEER_PORT[$1]}"; }
# member_command I [flags]: fills COMMAND with what starts member I, flags last.
member_command() {
  local i=$1 client peer
  shift
  client=$(endpoint "$i") peer=$(peer_url "$i")
  COMMAND=("${MEMBER_BINARY:-$ETCD}" --name "m$i" --data-dir "$DIR/m$i" --listen-client-urls "$client" --advertise-client-urls "$client"
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster-token "$TOKEN"
    --cert-file "$DIR/server.crt" --key-file "$DIR/server.key" --trusted-ca-file "$DIR/ca.crt" --client-cert-auth
    --peer-cert-file "$DIR/peer.crt" --peer-key-file "$DIR/peer.key" --peer-trusted-ca-file "$DIR/peer-ca.crt" --peer-client-cert-auth
    --heartbeat-interval 100 --election-timeout 1000 --snapshot-count 1000 "$@")
}
member_start() { # index [flags]
  local i=$1
  member_command "$@"
  "${COMMAND[@]}" >>"$DIR/m$i.log" 2>&1 9>&- &
  echo $! >"$DIR/m$i.pid"
  disown $!
}
member_pid() { cat "$DIR/m$1.pid"; }
member_stop() { # index signal
  local pid
  pid=$(member_pid "$1")
  kill "-$2" "$pid"
  wait_until 10 ended "$pid"
  rm -f "$DIR/m$1.pid"
}
cluster_stop() {
  local file
  for file in "$DIR"/m[0-9]*.pid; do
    [ -e "$file" ] || continue
    file=${file##*/m}
    member_stop "${file%.pid}" 9
  done
}
all_healthy() { ctl endpoint health >/dev/null && ctl endpoint health --cluster; }
member_log() { tail -n "$LOG_LINES" "$DIR/m$1.log"; }

# ---- clients ------------------------------------------------------------------------------------------------------------
ctl() { timeout "${CTL_TIMEOUT:-20}" "$CTL" --endpoints "$EP" --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" "$@"; }
at() { EP=$(endpoint "$1") ctl "${@:2}"; } # member index, command
# ctl_background FILE ARGUMENTS...: a client that stays, say a watch.
ctl_background() {
  background "$1" timeout 100 "$CTL" --endpoints "$EP" --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" "${@:2}"
}
http() { curl -sS -m 10 --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" "$@"; }
number_of() { sed -n "s/.*\"$1\" *: *\\([0-9]*\\).*/\\1/p" | head -n 1; } # field of -w fields or json
revision() { ctl get "${1:-no-such-key}" -w fields | number_of Revision; }
# Columns of `endpoint status`: address, id, version, size, leader, learner, term, index, applied.
status_of() { at "$1" endpoint status | tr -d ' ' | cut -d , -f "$2"; } # index, column
leader() {
  local i
  for i in $(seq "$MEMBERS"); do [ "$(status_of "$i" 5 2>/dev/null)" = true ] && echo "$i" && return 0; done
  return 1
}
follower() {
  local i
  for i in $(seq "$MEMBERS"); do [ "$(status_of "$i" 5)" = false ] && echo "$i" && return 0; done
  return 1
}
hashes_equal() {
  local out
  out=$(ctl endpoint hashkv | sed 's/.*, *//')
  [ "$(wc -l <<<"$out")" = "$MEMBERS" ] && [ "$(sort -u <<<"$out" | wc -l)" = 1 ] || { echo "$out"; return 1; }
}
# The store is sound: a write goes on and is read by every member, all hash alike, nobody has an alarm of corruption.
store_is_sound() {
  local i value=sound-$RANDOM
  is OK "$(ctl put sound "$value" 2>&1)" 'writes go on'
  for i in $(seq "$MEMBERS"); do is "$value" "$(at "$i" get sound --print-value-only)" "read from m$i"; done
  wait_until 5 hashes_equal
  has_not CORRUPT "$(ctl alarm list)"
}

# ---- running ------------------------------------------------------------------------------------------------------------
PASSED=0 FAILED=0 NUMBER=0
# run_test NAME LABEL: one function as one counted test.
run_test() {
  local rc start ms
  NUMBER=$((NUMBER + 1))
  P=t$NUMBER/
  start=$(date +%s%N)
  (
    BACKGROUND=()
    trap background_end EXIT
    set -e; [ -z "${XTRACE:-}" ] || set -x
    "$1"
  ) >"$DIR/log" 2>&1
  rc=$?
  ms=$((($(date +%s%N) - start) / 1000000))
  if [ $rc -eq 0 ]; then
    PASSED=$((PASSED + 1))
    echo "ok $NUMBER - $2 ($ms ms)"
  else
    FAILED=$((FAILED + 1))
    echo "not ok $NUMBER - $2 ($ms ms)"
    ! declare -F after_failure >/dev/null || after_failure >/dev/null 2>&1
    grep -v '^{"level":"warn"' "$DIR/log" | tail -n "$LOG_LINES" | cut -c1-400 | sed 's/^/    /'
  fi
}
# Every test_* function in the order of the file; ETCD_TEST=part picks by name. run_tests LABEL-PREFIX
run_tests() {
  local name
  shopt -s extdebug
  for name in $(declare -F | awk '$3 ~ /^test_/ {print $3}' | while read -r f; do declare -F "$f"; done | sort -k3,3 -k2,2n | awk '{print $1}'); do
    shopt -u extdebug
    case $name in *"${ETCD_TEST:-}"*) run_test "$name" "$1${name#test_}" ;; esac
  done
}
summary() { # name
  echo "1..$NUMBER"
  echo "$1: $PASSED passed, $FAILED failed"
  [ $FAILED -eq 0 ] && [ $PASSED -gt 0 ]
}
