# etcdctl on the cluster: member, endpoint, move-leader, defrag, alarm, snapshot, check.
# shellcheck shell=bash

# What a failed test may have left: users, further members, stopped ones.
after_failure() {
  local i id
  for i in 1 2 3; do
    if ended "$(member_pid "$i" || echo 0)"; then member_start "$i" --initial-cluster "$INITIAL" --initial-cluster-state existing; fi
  done
  wait_until 10 all_serve
  no_access_control
  for id in $(ctl member list | awk -F ', ' '$3 !~ /^m[123]$/ {print $1}'); do ctl member remove "$id"; done
  for i in 4 9 11 12 13; do
    if [ -e "$DIR/m$i.pid" ]; then kill -9 "$(member_pid "$i")"; rm -f "$DIR/m$i.pid"; fi
  done
}
all_serve() { ctl endpoint health || ctl --user root:root endpoint health; }

# ---- member -------------------------------------------------------------------------------------------------------------
test_member_list() {
  local out i
  out=$(ctl member list)
  is 3 "$(wc -l <<<"$out")"
  for i in 1 2 3; do like "^[0-9a-f]+, started, m$i, $(peer_url "$i"), $(endpoint "$i"), false\$" "$(grep ", m$i," <<<"$out")"; done
  like '[0-9a-f]{8,16} [^ ]+ started [^ ]+ m2 [^ ]+ https' "$(ctl member list -w table | tr -s ' ' | sed 's/[|│]/-/g')"
  has '"name":"m3"' "$(ctl member list -w json)"
}
member_id() { ctl member list | awk -F ', ' -v name="$1" '$3 == name {print $1}'; }
# joins NUMBER FLAGS...: a member that `member add` names the settings of, started with just these.
joins() {
  local i=$1 out
  CLIENT_PORT[i]=$(free_port) PEER_PORT[i]=$(free_port)
  out=$(ctl member add "m$i" --peer-urls "$(peer_url "$i")" "${@:2}")
  like "^Member +[0-9a-f]+ added to cluster +[0-9a-f]+\$" "$(head -n 1 <<<"$out")"
  has "ETCD_NAME=\"m$i\"" "$out"
  has 'ETCD_INITIAL_CLUSTER_STATE="existing"' "$out"
  ID=$(sed -n 's/^Member *\([0-9a-f]*\) added.*/\1/p' <<<"$out")
  like "^$ID, unstarted, , $(peer_url "$i"), , " "$(ctl member list | grep unstarted)"
  rm -rf "$DIR/m$i"
  member_start "$i" --initial-cluster "$(sed -n 's/^ETCD_INITIAL_CLUSTER="\(.*\)"$/\1/p' <<<"$out")" --initial-cluster-state existing
  started() { has "$ID, started, m$i, " "$(ctl member list)"; }
  wait_until 20 started
}
# leaves NUMBER: removed, after which its process ends by itself or serves nobody.
leaves() {
  local pid
  pid=$(member_pid "$1")
  like "^Member +$ID removed from cluster +[0-9a-f]+\$" "$(ctl member remove "$ID")"
  has_not "$ID" "$(ctl member list)"
  wait_until 15 ended "$pid"
  rm -f "$DIR/m$1.pid"
}
test_member_add_update_remove() {
  ctl put "$P"before 1 >/dev/null
  joins 4
  caught_up() { is 1 "$(at 4 get "$P"before --print-value-only)"; }
  wait_until 15 caught_up
  ctl put "$P"after 2 >/dev/null
  is 2 "$(at 4 get "$P"after --print-value-only)" 'a linearizable read of the new member'
  is OK "$(at 4 put "$P"through 3)"
  like "^Member +$ID updated in cluster" "$(ctl member update "$ID" --peer-urls "https://localhost:${PEER_PORT[4]}")"
  has "$ID, started, m4, https://localhost:${PEER_PORT[4]}, " "$(ctl member list)"
  leaves 4
  refused 'etcdserver: member not found' ctl member remove "$ID"
  store_is_sound
}
test_member_add_learner_and_promote() {
  ctl put "$P"a 1 >/dev/null
  joins 4 --learner
  like "^$ID, started, m4, .*, true\$" "$(ctl member list | grep "$ID")"
  caught_up() { is 1 "$(at 4 get "$P"a --consistency=s --print-value-only)"; }
  wait_until 15 caught_up
  is true "$(status_of 4 6)" 'a learner'
  promoted() { like "^Member +$ID promoted in cluster" "$(ctl member promote "$ID" 2>&1)"; }
  wait_until 15 promoted
  like "^$ID, started, m4, .*, false\$" "$(ctl member list | grep "$ID")"
  is OK "$(at 4 put "$P"b 1)"
  leaves 4
  store_is_sound
}

# ---- endpoint -----------------------------------------------------------------------------------------------------------
test_endpoint_status() {
  local out
  out=$(ctl endpoint status)
  is 3 "$(wc -l <<<"$out")"
  is 1 "$(cut -d , -f 5 <<<"$out" | grep -c true)" 'one leader'
  is 1 "$(cut -d , -f 7 <<<"$out" | sort -u | wc -l)" 'one term'
  like "^$(endpoint 1), [0-9a-f]+, 3\\.[0-9]+\\.[0-9]+, [0-9.]+ [kM]B, (true|false), false, [0-9]+, [0-9]+, [0-9]+, ?\$" "$(head -n 1 <<<"$out")"
  is "$(cut -d , -f 1 <<<"$out" | sort)" "$(EP=$(endpoint 1) ctl endpoint status --cluster | cut -d , -f 1 | sort)"
  has 'IS LEADER' "$(ctl endpoint status -w table)"
  is 3 "$(ctl endpoint status -w json | grep -o '"dbSize"' | wc -l)"
  like '"raftAppliedIndex":[1-9]' "$(ctl endpoint status -w json)"
  has '"DBSize" : ' "$(ctl endpoint status -w fields)"
}
test_endpoint_health() {
  is 3 "$(ctl endpoint health 2>&1 | grep -c 'is healthy: successfully committed proposal')"
  is 3 "$(EP=$(endpoint 2) ctl endpoint health --cluster 2>&1 | grep -c 'is healthy')"
  is 3 "$(ctl endpoint health -w json 2>/dev/null | grep -o '"health":true' | wc -l)"
  local out
  out=$(EP=$(endpoint 1),https://127.0.0.1:1 ctl endpoint health --dial-timeout 500ms --command-timeout 1s 2>&1) && fail 'health of nobody'
  has 'https://127.0.0.1:1 is unhealthy' "$out"
  has "$(endpoint 1) is healthy" "$out"
}
test_endpoint_hashkv() {
  ctl put "$P"a 1 >/dev/null
  wait_until 5 hashes_equal
  local before
  before=$(ctl endpoint hashkv | head -n 1)
  like "^$(endpoint 1), [0-9]+" "$before"
  is 3 "$(EP=$(endpoint 3) ctl endpoint hashkv --cluster | grep -c '^https://')"
  is 3 "$(ctl endpoint hashkv -w json | grep -o '"hash":[0-9]' | wc -l)"
  has HASH "$(ctl endpoint hashkv -w table)"
  ctl put "$P"a 2 >/dev/null
  differs() { [ "$before" != "$(ctl endpoint hashkv | head -n 1)" ]; }
  wait_until 5 differs
}

# ---- leadership and maintenance -------------------------------------------------------------------------------------------
test_move_leader() {
  local from to from_id to_id
  from=$(leader) to=$(follower)
  from_id=$(status_of "$from" 2) to_id=$(status_of "$to" 2)
  is "Leadership transferred from $from_id to $to_id" "$(ctl move-leader "$to_id")"
  moved() { is "$to" "$(leader)"; }
  wait_until 5 moved
  is OK "$(ctl put "$P"a 1)"
  refused 'etcdserver: bad leader transferee' ctl move-leader 1234
}
test_defrag() {
  ctl put "$P"a 1 >/dev/null
  is 3 "$(ctl defrag 2>&1 | grep -c '^Finished defragmenting etcd member')"
  is 3 "$(EP=$(endpoint 1) ctl defrag --cluster 2>&1 | grep -c '^Finished defragmenting etcd member')"
  is 1 "$(ctl get "$P"a --print-value-only)"
  wait_until 5 hashes_equal
}
test_alarm_list_and_disarm() { # a real alarm is raised in bad-inputs.sh
  is "" "$(ctl alarm list)"
  is "" "$(ctl alarm disarm)"
}
test_version_page() { has '"etcdserver":"3.' "$(http "$(endpoint 1)/version")"; }

# ---- snapshot -------------------------------------------------------------------------------------------------------------
# restored FILE BINARY RESTORE...: one member of the binary on what the restore command makes of the snapshot; its keys under "$P".
restored() {
  local file=$1 binary=$2 i=9 r MEMBER_BINARY
  shift 2
  CLIENT_PORT[i]=$(free_port) PEER_PORT[i]=$(free_port)
  rm -rf "$DIR/m9"
  "$@" snapshot restore "$file" --data-dir "$DIR/m9" --name m9 --initial-cluster "m9=$(peer_url 9)" --initial-advertise-peer-urls "$(peer_url 9)" \
    --initial-cluster-token restored >"$DIR/restore.log" 2>&1 || { cat "$DIR/restore.log"; fail "restore by $1"; }
  MEMBER_BINARY=$binary TOKEN=restored member_start 9 --initial-cluster "m9=$(peer_url 9)" --initial-cluster-state existing
  serves() { ctl9 endpoint health >/dev/null 2>&1; }
  ctl9() { EP=$(endpoint 9) ctl "$@"; }
  wait_until 15 serves
  is "a 1 b 2" "$(short "$(ctl9 get "$P" --prefix)")"
  is 2 "$(ctl9 get "$P"b -w fields | number_of Version)"
  has "attached keys([${P}b])" "$(ctl9 lease timetolive "$LEASE" --keys)"
  is 1 "$(ctl9 member list | wc -l)"
  is OK "$(ctl9 put "$P"c 3)"
  [ "$(ctl9 get "$P"c -w fields | number_of ModRevision)" -gt "$R" ] || fail 'revisions go on where they were'
  if [ -n "${SAVE_AGAIN:-}" ]; then is 1 "$(ctl9 del "$P"c)"; ctl9 snapshot save "$SAVE_AGAIN" >/dev/null 2>&1; fi
  member_stop 9 TERM
}
take_snapshot() {
  LEASE=$(ctl lease grant 600 | awk '{print $2}')
  ctl put "$P"a 1 >/dev/null
  ctl put "$P"b 1 >/dev/null
  ctl put "$P"b 2 --lease "$LEASE" >/dev/null
  R=$(revision)
  rm -f "$DIR/snapshot.db"
  has 'Snapshot saved at' "$(EP=$(endpoint "$1") ctl snapshot save "$DIR/snapshot.db" 2>&1)"
}
test_snapshot_save_and_status() {
  local i out
  for i in 1 2 3; do
    take_snapshot "$i"
    out=$("$CTL" snapshot status "$DIR/snapshot.db" -w json 2>/dev/null)
    is "$R" "$(number_of revision <<<"$out")"
    [ "$(number_of totalKey <<<"$out")" -ge 3 ] || fail "$out"
    like '"hash":[1-9]' "$out"
    is 0 $(($(stat -c %s "$DIR/snapshot.db") % 512 - 32)) 'pages and a checksum'
    is "$("$STOCK/etcdutl" snapshot status "$DIR/snapshot.db")" "$("$UTL" snapshot status "$DIR/snapshot.db")"
  done
}
test_snapshot_restore_by_itself() {
  take_snapshot 1
  restored "$DIR/snapshot.db" "$ETCD" "$UTL"
}
test_snapshot_restores_into_a_stock_etcd_by_etcdctl() {
  take_snapshot 2
  restored "$DIR/snapshot.db" "$STOCK/etcd" "$CTL"
}
test_snapshot_of_a_stock_etcd_restores_here_and_back() {
  take_snapshot 3
  SAVE_AGAIN=$DIR/stock.db restored "$DIR/snapshot.db" "$STOCK/etcd" "$STOCK/etcdutl"
  R=$((R + 2))
  SAVE_AGAIN=$DIR/ours.db restored "$DIR/stock.db" "$ETCD" "$UTL"
  R=$((R + 2))
  restored "$DIR/ours.db" "$STOCK/etcd" "$CTL"
}
test_snapshot_restores_three_members() {
  take_snapshot 1
  local i
  INITIAL=
  for i in 11 12 13; do
    CLIENT_PORT[i]=$(free_port) PEER_PORT[i]=$(free_port)
    INITIAL+=${INITIAL:+,}m$i=$(peer_url "$i")
  done
  TOKEN=again
  for i in 11 12 13; do
    rm -rf "$DIR/m$i"
    "$UTL" snapshot restore "$DIR/snapshot.db" --data-dir "$DIR/m$i" --name "m$i" --initial-cluster "$INITIAL" \
      --initial-advertise-peer-urls "$(peer_url "$i")" --initial-cluster-token "$TOKEN" >"$DIR/restore.log" 2>&1 || { cat "$DIR/restore.log"; fail restore; }
    member_start "$i" --initial-cluster "$INITIAL" --initial-cluster-state existing
  done
  EP=$(endpoint 11),$(endpoint 12),$(endpoint 13)
  three() { is 3 "$(ctl endpoint health 2>&1 | grep -c 'is healthy')"; }
  wait_until 20 three
  for i in 11 12 13; do is "a 1 b 2" "$(short "$(at "$i" get "$P" --prefix)")"; done
  is 3 "$(ctl member list | grep -c started)"
  for i in 11 12 13; do member_stop "$i" TERM; done
}

# ---- check ----------------------------------------------------------------------------------------------------------------
perf_says() { tr '\r' '\n' <"$DIR/perf.out" | grep -oE '(PASS|FAIL|Throughput|Slowest|Stddev|Error).*'; }
# The outcome of what etcdctl.sh started. It is about latency: when it fails beside all the other tests it gets a minute alone.
check_perf() {
  wait_until 90 ended "$PERF_PID"
  perf_says
  if ! perf_says | grep -q '^PASS$'; then
    echo 'once more, alone:'
    timeout 100 "$CTL" --endpoints "$PERF_EP" --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" \
      check perf --load s --prefix again/ >"$DIR/perf.out" 2>&1 || true
    perf_says
  fi
  like 'PASS: Throughput is 1[0-9][0-9] writes/s' "$(perf_says)"
  like '^PASS$' "$(perf_says)"
}
