# Bad inputs that take processes and files: flags, certificates, members that do not belong, damaged files, full disks.
# shellcheck shell=bash

# refuses BINARY TEXT FLAGS...: it ends by itself, not with 0, and says the text.
refuses() {
  local out rc=0
  out=$(timeout 10 "$1" --data-dir "$DIR/refused" "${@:3}" 2>&1) || rc=$?
  rm -rf "$DIR/refused"
  [ $rc -ne 0 ] && [ $rc -ne 124 ] || fail "not refused by $1 ($rc): ${*:3}: $(tail -n 3 <<<"$out" | cut -c1-300)"
  has "$2" "${out//\\\"/\"}"
}
test_flags() {
  local a b=http://127.0.0.1:12379 binary text flags words
  a=https://127.0.0.1:$(free_port)
  while IFS='|' read -r text flags; do
    read -ra words <<<"$flags"
    for binary in "$STOCK/etcd" "$ETCD"; do refuses "$binary" "$text" "${words[@]}"; done
  done <<TABLE
no-such-flag|--no-such-flag
extra-argument|extra-argument
--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]|--election-timeout 100
--election-timeout[60000ms] is too long, and should be set less than 50000ms|--election-timeout 60000
invalid value "nonsense" for|--heartbeat-interval nonsense
invalid value "nonsense" for|--quota-backend-bytes nonsense
"odd"|--initial-cluster-state odd
URL scheme must be http, https, unix, or unixs: nonsense|--listen-client-urls nonsense
127.0.0.1|--listen-client-urls http://127.0.0.1 --advertise-client-urls $b
http://nohost:2379|--listen-client-urls http://nohost:2379 --advertise-client-urls $b
--advertise-client-urls is required when --listen-client-urls is set explicitly|--listen-client-urls $b
$a|--listen-client-urls $a --advertise-client-urls $a
couldn't find local name "a" in the initial cluster configuration|--name a --initial-cluster b=http://127.0.0.1:2380
--initial-cluster has a=http://127.0.0.1:23801 but missing from --initial-advertise-peer-urls|--name a --initial-cluster a=http://127.0.0.1:23801
URL scheme must be http, https, unix, or unixs: nonsense|--name a --initial-cluster a=nonsense
"odd"|--auto-compaction-mode odd --auto-compaction-retention 1
/nowhere: |--cert-file /nowhere --key-file /nowhere --listen-client-urls $a --advertise-client-urls $a
odd|--auth-token odd
odd|--log-level odd
unexpected TLS cipher suite "odd"|--cipher-suites odd --cert-file $DIR/server.crt --key-file $DIR/server.key --listen-client-urls $a --advertise-client-urls $a
TABLE
  has '--election-timeout[100ms]' "$(ETCD_ELECTION_TIMEOUT=100 timeout 10 "$ETCD" --data-dir "$DIR/refused" 2>&1)"
}
test_two_processes_on_one_data_directory() {
  local out
  member_command 1 --initial-cluster "$INITIAL" --initial-cluster-state existing --listen-client-urls "https://127.0.0.1:$(free_port)" \
    --listen-peer-urls "https://127.0.0.1:$(free_port)"
  # Stock etcd waits for the lock for ever; no other may be let in.
  out=$(timeout 4 "${COMMAND[@]}" 2>&1) && fail "a second process was let in: $(tail -n 3 <<<"$out")"
  has_not 'ready to serve client requests' "$out"
  has_not '"member ready"' "$out"
  store_is_sound
}

# ---- on the wire ----------------------------------------------------------------------------------------------------------
no_answer() { # certificate arguments of etcdctl: the call fails, and in time
  local out
  out=$(timeout 10 "$CTL" --endpoints "$(endpoint 1)" --dial-timeout 1s --command-timeout 2s "$@" get x 2>&1) && fail "answered: $out"
  like 'certificate|deadline exceeded|handshake|tls|connection' "$out"
}
test_client_certificates() {
  no_answer --cacert "$DIR/ca.crt"
  no_answer --cacert "$DIR/ca.crt" --cert "$DIR/intruder.crt" --key "$DIR/intruder.key"
  no_answer --cacert "$DIR/ca.crt" --cert "$DIR/peer.crt" --key "$DIR/peer.key"
  no_answer --cacert "$DIR/stranger.crt" --cert "$DIR/client.crt" --key "$DIR/client.key"
  curl -sS -m 5 --cacert "$DIR/ca.crt" "$(endpoint 1)/health" >/dev/null 2>&1 && fail 'HTTP without a certificate'
  curl -sS -m 5 --cacert "$DIR/peer-ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" "$(peer_url 1)/members" >/dev/null 2>&1 && fail 'a client at the peer port'
  store_is_sound
}
test_garbage_on_the_ports() {
  local port noise
  noise=$DIR/noise
  head -c 100000 /dev/urandom >"$noise"
  for port in "${CLIENT_PORT[1]}" "${PEER_PORT[1]}"; do
    timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port; cat '$noise' >&3; timeout 2 cat <&3 >/dev/null" 2>/dev/null || true
    timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port; printf 'GET / HTTP/1.1\r\nHost: x\r\n\r\n' >&3; timeout 2 cat <&3 >/dev/null" 2>/dev/null || true
  done
  tls_says() { timeout 5 openssl s_client -quiet -connect "127.0.0.1:${CLIENT_PORT[1]}" -CAfile "$DIR/ca.crt" -cert "$DIR/client.crt" -key "$DIR/client.key" "$@" 2>/dev/null; }
  has '400' "$( (printf 'BLAH BLAH BLAH\r\n\r\n'; sleep 1) | tls_says | head -n 1)"
  (cat "$noise"; sleep 1) | tls_says >/dev/null || true
  (printf 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'; cat "$noise"; sleep 1) | tls_says -alpn h2 >/dev/null || true
  is 404 "$(http -o /dev/null -w '%{http_code}' "$(endpoint 1)/no/such/page")"
  is 405 "$(http -o /dev/null -w '%{http_code}' -X POST "$(endpoint 1)/version")"
  store_is_sound
}

# ---- members that do not belong -------------------------------------------------------------------------------------------
nobody_serves() { # index: the process ended, or has no leader to serve with
  ended "$(member_pid "$1")" || ! at "$1" get x --command-timeout 1s
}
stays_out() { # index: for a while, nothing is served
  local end=$((SECONDS + 4))
  while [ $SECONDS -lt $end ]; do nobody_serves "$1" >/dev/null 2>&1 || fail "m$1 serves"; sleep 0.3; done
  kill -9 "$(member_pid "$1")" 2>/dev/null || true
  rm -f "$DIR/m$1.pid"
}
fresh() { # index: free ports and no data
  CLIENT_PORT[$1]=$(free_port) PEER_PORT[$1]=$(free_port)
  rm -rf "$DIR/m$1" "$DIR/m$1.log"
}
test_member_that_nobody_added() {
  fresh 4
  member_start 4 --initial-cluster "$INITIAL,m4=$(peer_url 4)" --initial-cluster-state existing
  out() { ended "$(member_pid 4)"; }
  wait_until 15 out
  has 'member count is unequal' "$(cat "$DIR/m4.log")"
  rm -f "$DIR/m4.pid"
  store_is_sound
}
test_member_of_another_cluster() {
  fresh 4
  local ids
  ids=$(ctl member list)
  TOKEN=other member_start 4 --initial-cluster "$INITIAL,m4=$(peer_url 4)" --initial-cluster-state new
  stays_out 4
  like 'cluster ?ID mismatch|cluster-id|another cluster' "$(cat "$DIR"/m[1-4].log)"
  is "$ids" "$(ctl member list)"
  store_is_sound
}
# Sets id. Right after an intruder's attempts a member may count as not connected for long enough (strict reconfiguration): asked again, as people do.
add_fourth() {
  added() { ctl member add m4 --peer-urls "$(peer_url 4)" >"$DIR/added"; }
  wait_until 20 added
  id=$(sed -n 's/^Member *\([0-9a-f]*\) added.*/\1/p' "$DIR/added")
}
test_member_with_a_certificate_of_a_stranger() {
  fresh 4
  local id
  add_fourth
  member_start 4 --initial-cluster "$INITIAL,m4=$(peer_url 4)" --initial-cluster-state existing --peer-cert-file "$DIR/intruder.crt" --peer-key-file "$DIR/intruder.key"
  stays_out 4
  ctl member remove "$id" >/dev/null
  store_is_sound
}
test_removed_member_that_comes_back() {
  fresh 4
  local id
  add_fourth
  member_start 4 --initial-cluster "$INITIAL,m4=$(peer_url 4)" --initial-cluster-state existing
  joined() { is OK "$(at 4 put stale 1)"; }
  wait_until 20 joined
  member_stop 4 9
  ctl member remove "$id" >/dev/null
  ctl put stale 2 >/dev/null
  member_start 4 --initial-cluster "$INITIAL,m4=$(peer_url 4)" --initial-cluster-state existing
  out() { ended "$(member_pid 4)"; }
  wait_until 20 out
  like 'removed' "$(cat "$DIR/m4.log")"
  rm -f "$DIR/m4.pid"
  is 2 "$(ctl get stale --print-value-only)"
  store_is_sound
}
test_majority_lost() {
  local i
  member_stop 2 9
  member_stop 3 9
  refused 'etcdserver: request timed out' at 1 put x 1 --command-timeout 18s
  at 1 get sound --consistency=s >/dev/null
  for i in 2 3; do member_start "$i" --initial-cluster "$INITIAL" --initial-cluster-state existing; done
  wait_until 20 all_healthy
  store_is_sound
}

# ---- damaged files --------------------------------------------------------------------------------------------------------
newest_wal() { find "$DIR/m$1/member/wal" -name '*.wal' | sort | tail -n 1; }
end_of_log() { # file: the offset behind its last byte that is not zero
  node -e 'const b = require("fs").readFileSync(process.argv[1]); let n = b.length; while (n && !b[n - 1]) n--; console.log(n)' "$1"
}
damage() { # file offset: one byte becomes another
  printf "\\x$(printf %02x $((0x$(od -An -tx1 -j "$2" -N 1 "$1" | tr -d ' ') ^ 0xff)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
rejoin() { # index: its data thrown away, removed and added again
  local id
  id=$(at $(($1 % 3 + 1)) member list | awk -F ', ' -v name="m$1" '$3 == name {print $1}')
  EP=$(endpoint $(($1 % 3 + 1))) ctl member remove "$id" >/dev/null
  again() { EP=$(endpoint $(($1 % 3 + 1))) ctl member add "m$1" --peer-urls "$(peer_url "$1")"; }
  wait_until 15 again "$1"
  rm -rf "$DIR/m$1"
  member_start "$1" --initial-cluster "$INITIAL" --initial-cluster-state existing
  wait_until 20 all_healthy
}
test_log_with_a_wrong_checksum_in_the_middle() {
  local i file
  for i in 1 2 3 4 5 6 7 8; do ctl put "damage$i" "$(head -c 3000 /dev/zero | tr '\0' x)" >/dev/null; done
  member_stop 3 9
  file=$(newest_wal 3)
  damage "$file" $(($(end_of_log "$file") - 14000))
  : >"$DIR/m3.log"
  member_start 3 --initial-cluster "$INITIAL" --initial-cluster-state existing
  out() { ended "$(member_pid 3)"; }
  wait_until 15 out
  like 'crc mismatch|checksum|damage|corrupt' "$(cat "$DIR/m3.log")"
  rm -f "$DIR/m3.pid"
  rejoin 3
  store_is_sound
}
# A write that reached the disks in part when the power failed: nobody was told of it, all start without it.
test_log_with_a_torn_tail() {
  local i before=() file=() end
  for i in 1 2 3; do member_stop "$i" 9; done
  # No commit of the databases: they would know of a write that the log has lost.
  for i in 1 2 3; do member_start "$i" --initial-cluster "$INITIAL" --initial-cluster-state existing --backend-batch-interval 60s; done
  wait_until 20 all_healthy
  ctl put torn before >/dev/null
  for i in 1 2 3; do is before "$(at "$i" get torn --print-value-only)"; done
  sleep 0.5
  for i in 1 2 3; do file[i]=$(newest_wal "$i") before[i]=$(end_of_log "${file[i]}"); done
  ctl put torn "$(head -c 6000 /dev/zero | tr '\0' y)" >/dev/null
  kill -9 "$(member_pid 1)" "$(member_pid 2)" "$(member_pid 3)"
  for i in 1 2 3; do
    wait_until 5 ended "$(member_pid "$i")"
    end=$(end_of_log "${file[i]}")
    [ "$end" -gt $((before[i] + 6000)) ] || fail "the log of m$i ended at ${before[i]}, then at $end"
    dd if=/dev/zero of="${file[i]}" bs=1 seek=$((before[i] + 1500)) count=$((end - before[i])) conv=notrunc status=none
  done
  for i in 1 2 3; do member_start "$i" --initial-cluster "$INITIAL" --initial-cluster-state existing; done
  wait_until 20 all_healthy
  is before "$(ctl get torn --print-value-only)"
  store_is_sound
}
test_snapshots_that_are_damaged() {
  local size
  rm -f "$DIR"/*.db
  EP=$(endpoint 1) ctl snapshot save "$DIR/good.db" >/dev/null 2>&1
  size=$(stat -c %s "$DIR/good.db")
  restore() { "$UTL" snapshot restore "$1" --data-dir "$DIR/restored" --name a --initial-cluster a=http://127.0.0.1:1 --initial-advertise-peer-urls http://127.0.0.1:1; }
  stock_restore() { "$STOCK/etcdutl" snapshot restore "$1" --data-dir "$DIR/restored" --name a --initial-cluster a=http://127.0.0.1:1 --initial-advertise-peer-urls http://127.0.0.1:1; }
  head -c $((size - 32)) "$DIR/good.db" >"$DIR/no-hash.db"
  head -c $((size / 2 + 17)) "$DIR/good.db" >"$DIR/short.db"
  cp "$DIR/good.db" "$DIR/wrong.db"
  damage "$DIR/wrong.db" $((size / 2))
  head -c 5000 /dev/urandom >"$DIR/noise.db"
  local how
  # bad TEXT FILE: refused; what a stock restore leaves behind is cleared.
  bad() { refused "$1" "$how" "$2"; rm -rf "$DIR/restored"; }
  for how in restore stock_restore; do
    bad 'snapshot missing hash but --skip-hash-check=false' "$DIR/no-hash.db"
    bad 'snapshot missing hash but --skip-hash-check=false' "$DIR/short.db"
    bad 'expected sha256 [' "$DIR/wrong.db"
    bad '' "$DIR/noise.db"
    bad '' "$DIR/nowhere.db"
    "$how" "$DIR/good.db" >/dev/null 2>&1
    refused 'not empty' "$how" "$DIR/good.db"
    rm -rf "$DIR/restored"
  done
  refused '' "$UTL" snapshot status "$DIR/noise.db"
  store_is_sound
}

# ---- no room --------------------------------------------------------------------------------------------------------------
# alone FLAGS...: a cluster of one, m9.
alone() {
  fresh 9
  TOKEN=alone member_start 9 --initial-cluster "m9=$(peer_url 9)" --initial-cluster-state new "$@"
  serves() { at 9 endpoint health; }
  wait_until 15 serves
}
test_quota_exceeded() {
  local i r
  alone --quota-backend-bytes 3000000
  full() { at 9 put "full/$1" "$(head -c 100000 /dev/zero | tr '\0' z)" 2>&1; }
  for i in $(seq 60); do case $(full "$i") in *'database space exceeded'*) break ;; esac; done
  refused 'etcdserver: mvcc: database space exceeded' at 9 put x 1
  refused 'etcdserver: mvcc: database space exceeded' at 9 lease grant 60
  like '^memberID:[0-9]+ alarm:NOSPACE' "$(at 9 alarm list)"
  has 'NOSPACE' "$(http "$(endpoint 9)/health")"
  at 9 get full --prefix --keys-only | grep -q full/1
  at 9 del full --prefix >/dev/null
  r=$(at 9 get x -w fields | number_of Revision)
  at 9 compaction "$r" --physical >/dev/null
  at 9 defrag >/dev/null 2>&1
  like 'alarm:NOSPACE' "$(at 9 alarm disarm)"
  is "" "$(at 9 alarm list)"
  is OK "$(at 9 put x 1)"
  member_stop 9 9
}
test_full_disk() {
  local i n=0 size=100
  mkdir -p "$DIR/small"
  mount -t tmpfs -o size=${size}m tmpfs "$DIR/small"
  trap 'background_end; kill -9 "$(cat "$DIR/m9.pid" 2>/dev/null)" 2>/dev/null || :; umount -l "$DIR/small"; rm -f "$DIR/m9"' EXIT
  fresh 9
  ln -s "$DIR/small" "$DIR/m9"
  TOKEN=alone member_start 9 --initial-cluster "m9=$(peer_url 9)" --initial-cluster-state new
  serves() { at 9 endpoint health; }
  wait_until 15 serves
  head -c 1000000 /dev/zero | tr '\0' d >"$DIR/megabyte"
  for i in $(seq 120); do
    at 9 put "disk/$i" --command-timeout 5s <"$DIR/megabyte" >/dev/null 2>&1 || break
    n=$i
  done
  [ "$n" -gt 5 ] && [ "$n" -lt 120 ] || fail "$n puts before the disk was full"
  # Ended, or refusing: never a success that is not there.
  kill -9 "$(member_pid 9)" 2>/dev/null || true
  wait_until 5 ended "$(member_pid 9)"
  like 'no space left|No space left|space exceeded' "$(cat "$DIR/m9.log")$(df "$DIR/small" | awk 'END {if ($4 < 1100) print "no space left"}')"
  mount -o remount,size=400m "$DIR/small"
  TOKEN=alone member_start 9 --initial-cluster "m9=$(peer_url 9)" --initial-cluster-state existing
  wait_until 20 serves
  for i in $(seq "$n"); do is 1000001 "$(at 9 get "disk/$i" --print-value-only | wc -c)" "acknowledged disk/$i"; done
  is OK "$(at 9 put after 1)"
}
