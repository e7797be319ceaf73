#!/usr/bin/env bash
# Snapshots go between stock etcd (Debian's and a newer one) and ours in both directions, with everything that is in them; and
# the sub-commands of etcdutl. Members stand alone here unless a test says otherwise.
# ETCD_TEST=part picks tests by name.
set -u
cd "$(dirname "$0")/../../.." || exit 1
. tests/e2e/etcd/lib.sh

etcd_begin
OLD=$(tests/tools/fetch-etcd --release)/etcd || { echo 'no etcd of this Debian release to compare with' >&2; exit 1; }
ln -s "$ETCD" "$DIR/etcdutl"
UTL=$DIR/etcdutl

# ---- members of three makes -----------------------------------------------------------------------------------------------
binary_of() { case $1 in ours) echo "$ETCD" ;; new) echo "$STOCK/etcd" ;; old) echo "$OLD" ;; esac; }
# alone MAKE [flags]: a fresh member in place 9.
alone() {
  local make=$1 number=9
  shift
  CLIENT_PORT[number]=$(free_port) PEER_PORT[number]=$(free_port) EP=$(endpoint 9)
  rm -rf "$DIR/m9" "$DIR/m9.log"
  TOKEN=alone MEMBER_BINARY=$(binary_of "$make") member_start 9 --initial-cluster "m9=$(peer_url 9)" "$@"
  (wait_until 15 healthy) || { member_log 9; fail "$make does not start"; }
}
healthy() { ctl endpoint status >/dev/null 2>&1; } # `endpoint health` says no when there is an alarm
stop9() { member_stop 9 TERM; }
# restore MAKE FILE [flags]: into the folder m9, by the make's own program.
restore() {
  local make=$1 file=$2 number=9
  shift 2
  CLIENT_PORT[number]=$(free_port) PEER_PORT[number]=$(free_port) EP=$(endpoint 9)
  rm -rf "$DIR/m9" "$DIR/m9.log"
  case $make in
  ours) set -- "$UTL" snapshot restore "$file" "$@" ;;
  new) set -- "$STOCK/etcdutl" snapshot restore "$file" "$@" ;;
  old) set -- "$CTL_OLD" snapshot restore "$file" "$@" ;;
  esac
  "$@" --data-dir "$DIR/m9" --name m9 --initial-cluster "m9=$(peer_url 9)" --initial-advertise-peer-urls "$(peer_url 9)" \
    --initial-cluster-token restored >"$DIR/restore.log" 2>&1 || { cat "$DIR/restore.log"; fail "restore by $make"; }
}
# boot MAKE [flags]: on what restore made.
boot() {
  TOKEN=restored MEMBER_BINARY=$(binary_of "$1") member_start 9 --initial-cluster "m9=$(peer_url 9)" "${@:2}"
  (wait_until 15 healthy) || { member_log 9; fail "$1 does not start on what was restored"; }
}
save() { rm -f "$1"; ctl snapshot save "$1" >/dev/null 2>&1 || fail "snapshot save"; }

# ---- what has to survive --------------------------------------------------------------------------------------------------
# fill: several versions, deletions, transactions, odd keys, leases, users, a compaction. The revisions to look back at: LOOK.
fill() {
  local i lease
  LEASES=
  for i in 1 2 3; do
    lease=$(ctl lease grant $((i * 1000)) | awk '{print $2}')
    LEASES+=" $lease"
    ctl put "leased/$i" "$i" --lease "$lease" >/dev/null
  done
  for i in $(seq 20); do ctl put "key/$i" "first $i" >/dev/null; done
  for i in $(seq 1 3 20); do ctl put "key/$i" "second $i" >/dev/null; done
  ctl del key/4 >/dev/null
  ctl put key/4 'born again' >/dev/null
  ctl del key/1 --prefix >/dev/null
  ctl put gone 1 >/dev/null
  ctl del gone >/dev/null
  LOOK=$(revision)
  printf 'version("key/2") = "1"\n\nput key/2 in\nput txn/2 "a transaction"\ndel key/3\n\nput txn/not 1\n\n' | ctl txn >/dev/null
  ctl put $'odd \xc3\xa9\xff\n"<&>' $'\x01\x02 "quoted"\nlines' >/dev/null
  head -c 300000 /dev/zero | tr '\0' z | ctl put big >/dev/null
  ctl put empty -- '' >/dev/null
  ctl compaction "$LOOK" >/dev/null
  ctl put after 1 >/dev/null
  LOOK="$LOOK $(revision)"
  ctl user add root:secret >/dev/null
  ctl user add bob:"pass word" >/dev/null
  ctl user add nobody --no-password >/dev/null
  ctl role add writer >/dev/null
  ctl role grant-permission writer readwrite key/ key0 >/dev/null
  ctl role grant-permission writer read odd >/dev/null
  ctl role grant-permission writer write --prefix=true all >/dev/null
  ctl user grant-role bob writer >/dev/null
  ctl user grant-role root root >/dev/null
}
# contents: all that a client can see and that a snapshot must carry, as text. The revision of the store is in it.
contents() {
  local revision lease user
  ctl get '' --prefix -w json | sed 's/"header":{[^}]*}/"header"/'
  for revision in $LOOK; do ctl get '' --prefix --rev "$revision" -w json | sed 's/"header":{[^}]*}/"header"/'; done
  echo "revision $(revision)"
  ctl endpoint hashkv | sed 's/.*, *//'
  ctl lease list | sort
  for lease in $LEASES; do ctl lease timetolive "$lease" --keys | sed 's/remaining([0-9]*s)//'; done
  ctl user list
  for user in root bob nobody; do ctl user get "$user"; done
  ctl role get writer
}
compacted_below() { refused 'required revision has been compacted' ctl get after --rev $((${LOOK%% *} - 1)); }
# status_agrees FILE: all programs say the same of it.
status_agrees() {
  local format stock
  for format in json fields; do
    stock=$("$STOCK/etcdutl" snapshot status "$1" -w $format)
    is "$stock" "$("$UTL" snapshot status "$1" -w $format)"
    is "$stock" "$("$CTL_OLD" snapshot status "$1" -w $format 2>/dev/null)" 'the old etcdctl'
  done
  is "$("$STOCK/etcdutl" snapshot status "$1")" "$("$UTL" snapshot status "$1")"
}

# ---- there and back -------------------------------------------------------------------------------------------------------
# journey MAKE...: filled in the first, then restored into each of the others from a snapshot of the one before.
journey() {
  local make before=$1 want
  alone "$1"
  fill
  want=$(contents)
  has 'second' "$(ctl get key/7)"
  for make in "${@:2}"; do
    save "$DIR/$before.snapshot"
    stop9
    status_agrees "$DIR/$before.snapshot"
    restore "$make" "$DIR/$before.snapshot"
    boot "$make"
    is "$want" "$(contents)" "$before to $make"
    compacted_below
    is 1 "$(ctl member list | wc -l)"
    before=$make
  done
  is OK "$(ctl put further 1)"
  is "bob" "$(ctl user list | head -n 1)"
  ctl auth enable >/dev/null
  refused 'permission denied' ctl --user bob:"pass word" get gone
  is OK "$(ctl --user bob:"pass word" put key/new 1)"
  refused 'authentication failed' ctl --user bob:wrong get key/7
  stop9
}
test_from_a_new_stock_etcd_to_ours_and_back() { journey new ours new; }
test_from_an_old_stock_etcd_to_ours_and_back() { journey old ours old; }
test_from_ours_to_both_stock_etcds_and_home() { journey ours new ours old ours; }
test_from_ours_to_ours() { journey ours ours; }

test_a_users_need_for_a_password_is_restored() {
  alone new
  ctl user add root:secret >/dev/null
  ctl user grant-role root root >/dev/null
  ctl put a 1 >/dev/null
  ctl auth enable >/dev/null
  ctl --user root:secret snapshot save "$DIR/auth.snapshot" >/dev/null 2>&1
  stop9
  status_agrees "$DIR/auth.snapshot"
  restore ours "$DIR/auth.snapshot"
  boot ours
  refused 'permission denied' ctl get a # the certificate's name is no user
  is 1 "$(ctl --user root:secret get a --print-value-only)"
  stop9
}
# etcd leaves an alarm where it is, under the id of the member that was: so do we.
test_alarms_are_restored_as_etcd_does() {
  local make want
  alone new --quota-backend-bytes 200000
  full() {
    head -c 100000 /dev/zero | tr '\0' z | ctl put filler >/dev/null 2>&1 || :
    like '^memberID:[0-9]+ alarm:NOSPACE' "$(ctl alarm list)"
  }
  wait_until 10 full
  want=$(ctl alarm list)
  save "$DIR/alarm.snapshot"
  stop9
  for make in new ours; do
    restore $make "$DIR/alarm.snapshot"
    boot $make
    is "$want" "$(ctl alarm list)" "$make"
    refused 'database space exceeded' ctl put more 1
    is "$want" "$(ctl alarm disarm)"
    is OK "$(ctl put more 1)"
    save "$DIR/$make.snapshot"
    stop9
  done
}
test_a_raised_revision_is_raised_as_by_stock() {
  local make hash='' told='' before
  alone ours
  ctl put a 1 >/dev/null
  ctl put a 2 >/dev/null
  ctl put b 1 >/dev/null
  ctl del b >/dev/null
  before=$(revision)
  save "$DIR/bump.snapshot"
  stop9
  for make in new ours; do
    restore $make "$DIR/bump.snapshot" --bump-revision 1000000 --mark-compacted
    boot $make
    is $((before + 1000000)) "$(revision)"
    is 2 "$(ctl get a --print-value-only)"
    refused 'required revision has been compacted' ctl get a --rev $((before + 5))
    is OK "$(ctl put c 1)"
    is $((before + 1000001)) "$(ctl get c -w fields | number_of ModRevision)"
    HASH=$(settled_hash)
    told=$(ctl get '' --prefix -w json | sed 's/"header":{[^}]*}/"header"/')
    is "${hash:-$HASH $told}" "$HASH $told" "$make"
    hash="$HASH $told"
    has 'has been compacted' "$(timeout 5 "$CTL" --endpoints "$EP" --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" watch a --rev "$before" 2>&1 || :)"
    stop9
  done
  refused '--mark-compacted required' "$UTL" snapshot restore "$DIR/bump.snapshot" --data-dir "$DIR/x" --bump-revision 5
  refused '--mark-compacted required' "$UTL" snapshot restore "$DIR/bump.snapshot" --data-dir "$DIR/x" --mark-compacted
}
hash_now() { ctl endpoint hashkv | sed 's/.*, *//'; }
# The compaction that the raised revision asks for is done in the background.
settled_hash() {
  settled() { local hash; hash=$(hash_now); sleep 0.3; is "$hash" "$(hash_now)"; }
  wait_until 5 settled
  hash_now
}
test_three_members_are_restored_from_one_snapshot_of_stock() {
  local i want
  alone new
  fill
  want=$(contents)
  save "$DIR/three.snapshot"
  stop9
  INITIAL='' TOKEN=three EP='' MEMBERS=3
  for i in 1 2 3; do
    CLIENT_PORT[i]=$(free_port) PEER_PORT[i]=$(free_port)
    INITIAL+=${INITIAL:+,}m$i=$(peer_url "$i")
    EP+=${EP:+,}$(endpoint "$i")
  done
  for i in 1 2 3; do
    rm -rf "$DIR/m$i"
    "$ETCD" snapshot restore "$DIR/three.snapshot" --data-dir "$DIR/m$i" --name "m$i" --initial-cluster "$INITIAL" \
      --initial-cluster-token three --initial-advertise-peer-urls "$(peer_url "$i")" 2>>"$DIR/restore.log"
    member_start "$i" --initial-cluster "$INITIAL"
  done
  wait_until 20 all_healthy
  for i in 1 2 3; do is "$want" "$(EP=$(endpoint "$i") contents)" "m$i"; done
  is 3 "$(ctl member list | grep -c started)"
  store_is_sound
  for i in 1 2 3; do member_stop "$i" TERM; done
}

# What was restored is in no log: a member that joins gets it as an image.
test_a_member_that_joins_a_restored_cluster_gets_it_all() {
  local want number=8
  alone new
  fill
  want=$(contents)
  save "$DIR/join.snapshot"
  stop9
  restore ours "$DIR/join.snapshot"
  boot ours
  CLIENT_PORT[number]=$(free_port) PEER_PORT[number]=$(free_port)
  ctl member add m8 --peer-urls "$(peer_url 8)" >/dev/null
  rm -rf "$DIR/m8"
  TOKEN=restored member_start 8 --initial-cluster "m9=$(peer_url 9),m8=$(peer_url 8)" --initial-cluster-state existing
  joined() { is "$want" "$(EP=$(endpoint 8) contents)"; }
  wait_until 20 joined
  member_stop 8 TERM
  member_stop 9 9
}

# ---- the offline commands -------------------------------------------------------------------------------------------------
test_hashkv_of_a_file_is_that_of_the_member() {
  local of_member make revision
  for make in new ours; do
    alone $make
    fill
    of_member=$(ctl endpoint hashkv | sed 's/.*, *//')
    revision=$(revision)
    save "$DIR/hash.snapshot"
    is "$(ctl endpoint hashkv --rev $((revision - 1)) | sed 's/.*, *//')" "$("$UTL" hashkv "$DIR/hash.snapshot" --rev $((revision - 1)) | cut -d , -f 1)"
    stop9
    is "$of_member, $revision, ${LOOK%% *}" "$("$UTL" hashkv "$DIR/hash.snapshot")" "$make"
    is "{\"hash\":$of_member,\"hashRevision\":$revision,\"compactRevision\":${LOOK%% *}}" "$("$UTL" hashkv "$DIR/hash.snapshot" -w json)"
  done
  is "$of_member, $revision, ${LOOK%% *}" "$("$UTL" hashkv --data-dir "$DIR/m9")" 'the folder of ours'
  refused 'future revision' "$UTL" hashkv "$DIR/hash.snapshot" --rev $((revision + 1))
  refused 'has been compacted' "$UTL" hashkv "$DIR/hash.snapshot" --rev 1
}
# The same random history told to stock and to ours hashes alike at every revision, before and after compactions.
test_the_same_history_hashes_as_on_stock() {
  local stock=8 round i key revision last
  alone ours
  CLIENT_PORT[stock]=$(free_port) PEER_PORT[stock]=$(free_port)
  rm -rf "$DIR/m8"
  TOKEN=other MEMBER_BINARY=$STOCK/etcd member_start 8 --initial-cluster "m8=$(peer_url 8)"
  stock_up() { at 8 endpoint status >/dev/null; }
  wait_until 15 stock_up
  both() { ctl "$@" >/dev/null && at 8 "$@" >/dev/null; }
  hash_at() { at "$1" endpoint hashkv --rev "$2" | sed 's/.*, *//'; }
  RANDOM=7
  for round in 1 2 3; do
    for i in $(seq 14); do
      key=k$((RANDOM % 6))
      case $((RANDOM % 10)) in
      [0-5]) both put "$key" "$round.$i" ;;
      [6-7]) both del "$key" ;;
      8) both del --prefix k1 ;;
      9) both del --prefix k ;;
      esac
    done
    last=$(revision)
    is "$(at 8 get none -w fields | number_of Revision)" "$last"
    for revision in 0 $((last - 6)) $((last - 3)) $((last - 1)) "$last"; do is "$(hash_at 8 "$revision")" "$(hash_at 9 "$revision")" "revision $revision"; done
    both compaction $((last - 5)) --physical
    for revision in 0 $((last - 4)) $((last - 3)) $((last - 2)) "$last"; do is "$(hash_at 8 "$revision")" "$(hash_at 9 "$revision")" "compacted, revision $revision"; done
  done
  both del --prefix k
  is "$(hash_at 8 0)" "$(hash_at 9 0)" 'no key is left'
  both compaction "$(revision)" --physical
  is "$(hash_at 8 0)" "$(hash_at 9 0)" 'nothing is left'
  member_stop 8 TERM
  stop9
}
test_nothing_is_done_to_the_data_of_a_running_member() {
  local size
  alone ours
  for _ in 1 2 3 4; do head -c 1000000 /dev/zero | tr '\0' z | ctl put big >/dev/null; done
  ctl compaction "$(revision)" --physical >/dev/null
  refused 'a member runs on' "$UTL" defrag --data-dir "$DIR/m9"
  refused 'a member runs on' "$UTL" hashkv --data-dir "$DIR/m9"
  stop9
  size=$(stat -c %s "$DIR/m9/member/snap/db")
  "$UTL" defrag --data-dir "$DIR/m9" 2>/dev/null
  [ "$(stat -c %s "$DIR/m9/member/snap/db")" -lt $((size / 2)) ] || fail 'the database is no smaller'
  boot ours
  is 1000000 "$(ctl get big --print-value-only | tr -d '\n' | wc -c)"
  stop9
  refused 'required flag(s) "data-dir" not set' "$UTL" defrag
}
test_a_log_apart_from_the_data() {
  alone ours
  ctl put a 1 >/dev/null
  save "$DIR/apart.snapshot"
  stop9
  rm -rf "$DIR/apart-log"
  restore ours "$DIR/apart.snapshot" --wal-dir "$DIR/apart-log"
  [ ! -e "$DIR/m9/member/wal" ] || fail 'a log below the data too'
  boot ours --wal-dir "$DIR/apart-log"
  is 1 "$(ctl get a --print-value-only)"
  stop9
  refused 'exists' "$UTL" snapshot restore "$DIR/apart.snapshot" --data-dir "$DIR/y" --wal-dir "$DIR/apart-log"
  [ ! -e "$DIR/y" ] || fail 'something was made'
}
test_what_cannot_be_restored_leaves_nothing() {
  alone ours
  fill
  save "$DIR/good.snapshot"
  stop9
  bad() { # text file [flags]
    refused "$1" "$UTL" snapshot restore "$2" --data-dir "$DIR/none" "${@:3}"
    ! ls -d "$DIR"/none* >/dev/null 2>&1 || fail "left: $(ls -d "$DIR"/none*)"
  }
  head -c -32 "$DIR/good.snapshot" >"$DIR/bare"
  bad 'snapshot missing hash but --skip-hash-check=false' "$DIR/bare"
  "$UTL" snapshot restore "$DIR/bare" --skip-hash-check --data-dir "$DIR/bare.d" 2>/dev/null
  cp "$DIR/good.snapshot" "$DIR/flipped"
  printf 'X' | dd of="$DIR/flipped" bs=1 seek=9000 conv=notrunc status=none
  bad 'expected sha256 [' "$DIR/flipped"
  head -c 12288 "$DIR/good.snapshot" >"$DIR/cut"
  bad 'snapshot file integrity check failed' "$DIR/cut" --skip-hash-check
  head -c 16384 /dev/urandom >"$DIR/noise"
  bad 'invalid database' "$DIR/noise" --skip-hash-check
  bad 'no such file or directory' "$DIR/absent"
  bad "couldn't find local name \"z\" in the initial cluster configuration" "$DIR/good.snapshot" --name z
  mkdir "$DIR/full" && touch "$DIR/full/x"
  refused "data-dir \"$DIR/full\" not empty or could not be read" "$UTL" snapshot restore "$DIR/good.snapshot" --data-dir "$DIR/full"
  mkdir "$DIR/empty" && "$UTL" snapshot restore "$DIR/good.snapshot" --data-dir "$DIR/empty" 2>/dev/null
  [ -e "$DIR/empty/member/snap/db" ] || fail 'an empty folder was not used'
}
test_a_full_disk_stops_a_restore_which_leaves_nothing() {
  alone ours
  for i in $(seq 30); do head -c 1000000 /dev/urandom | base64 -w 0 | ctl put "big/$i" >/dev/null; done
  save "$DIR/large.snapshot"
  stop9
  mkdir -p "$DIR/small" && mount -t tmpfs -o size=20m tmpfs "$DIR/small"
  refused 'data.restore-' timeout 60 "$UTL" snapshot restore "$DIR/large.snapshot" --data-dir "$DIR/small/data"
  is '' "$(ls "$DIR/small")"
  umount "$DIR/small"
}
# Killed at any point a restore leaves no data folder, or the whole one.
test_a_killed_restore_leaves_nothing_or_all() {
  local i pid whole=0 none=0
  alone ours
  for i in $(seq 20); do head -c 500000 /dev/urandom | base64 -w 0 | ctl put "big/$i" >/dev/null; done
  want=$(ctl get '' --prefix | sha256sum)
  save "$DIR/kill.snapshot"
  stop9
  for i in $(seq 24); do
    rm -rf "$DIR"/m9*
    CLIENT_PORT[9]=$(free_port) PEER_PORT[9]=$(free_port) EP=$(endpoint 9)
    "$ETCD" snapshot restore "$DIR/kill.snapshot" --data-dir "$DIR/m9" --name m9 --initial-cluster "m9=$(peer_url 9)" \
      --initial-cluster-token restored --initial-advertise-peer-urls "$(peer_url 9)" 2>/dev/null &
    pid=$!
    sleep "0.$(printf %03d $((i * 12)))"
    kill -9 "$pid" 2>/dev/null || :
    wait "$pid" 2>/dev/null || :
    if [ ! -e "$DIR/m9" ]; then none=$((none + 1)); continue; fi
    whole=$((whole + 1))
    boot ours
    is "$want" "$(ctl get '' --prefix | sha256sum)"
    stop9
  done
  echo "$none times nothing, $whole times all"
  [ $none -gt 0 ] || fail 'no restore was killed in time'
}
test_the_words_of_etcdutl() {
  local status
  refused 'unknown command "nonsense" for "etcdutl"' "$UTL" nonsense
  refused 'unknown flag: --nonsense' "$UTL" snapshot status x --nonsense
  "$UTL" snapshot status >/dev/null 2>&1 && fail 'without a file'
  status=0; "$UTL" snapshot status >/dev/null 2>&1 || status=$?
  is 128 $status
  status=0; "$UTL" snapshot restore >/dev/null 2>&1 || status=$?
  is 128 $status
  status=0; "$UTL" snapshot status x -w nonsense >/dev/null 2>&1 || status=$?
  is 4 $status
  refused 'In order to download snapshot use' "$UTL" snapshot save x
  like '^etcdutl version: 3\.' "$("$UTL" version)"
  has 'snapshot' "$("$UTL" --help)"
  has '--bump-revision' "$("$ETCD" snapshot restore --help)"
}

# ---- size -----------------------------------------------------------------------------------------------------------------
# Writers go on while a snapshot is taken, and it is of one moment: of two keys written by one transaction, both or none.
writes_pairs() {
  local i
  for i in $(seq 100000); do printf '\nput pair/a %s\nput pair/b %s\n\n\n' "$i" "$i" | ctl txn || return 1; done
}
test_a_snapshot_under_writers_is_of_one_moment() {
  local i
  alone ours
  background "$DIR/writer.log" writes_pairs
  for i in 1 2 3; do
    sleep 0.3
    save "$DIR/moment-$i.snapshot"
  done
  kill "$BG"
  stop9
  for i in 1 2 3; do
    status_agrees "$DIR/moment-$i.snapshot"
    restore new "$DIR/moment-$i.snapshot"
    boot new
    is "$(ctl get pair/a --print-value-only)" "$(ctl get pair/b --print-value-only)"
    [ -n "$(ctl get pair/a --print-value-only)" ] || fail 'nothing was written'
    stop9
  done
}

run_tests ''
summary 'etcd/snapshot'
