# etcdctl on what lasts: watch, lease, lock, elect, make-mirror.
# shellcheck shell=bash

# ---- watch --------------------------------------------------------------------------------------------------------------
# ready_watch FILE ARGUMENTS...: a watch known to be open, by a key "$P"ready that it must cover.
ready_watch() {
  ctl_background "$@"
  opened() { ctl put "${P}ready" now >/dev/null; grep -q ready "$1"; }
  wait_until 10 opened "$1"
}
seen() { grep -v '^$' "$1" | sed "s#$P##g" | paste -sd ' ' | sed 's/PUT ready now //g'; } # without what opened it
seen_is() { is "$1" "$(seen "$2")"; }
test_watch_key() {
  local r
  r=$(revision)
  ctl_background "$DIR/out" watch "$P"a --rev "$((r + 1))"
  ctl put "$P"a 1 >/dev/null
  ctl put "$P"aa 1 >/dev/null
  ctl put "$P"a 2 >/dev/null
  ctl del "$P"a >/dev/null
  wait_until 10 seen_is "PUT a 1 PUT a 2 DELETE a" "$DIR/out"
}
test_watch_prefix_from_now() {
  ready_watch "$DIR/out" watch "$P" --prefix
  ctl put "$P"b 1 >/dev/null
  ctl put other 1 >/dev/null
  printf '\nput %sc 1\ndel %sb\n\n\n' "$P" "$P" | ctl txn >/dev/null
  wait_until 10 seen_is "PUT b 1 PUT c 1 DELETE b" "$DIR/out"
}
test_watch_range() {
  ready_watch "$DIR/out" watch "$P"b "$P"z
  for k in a b c y z; do ctl put "$P$k" 1 >/dev/null; done
  ctl put "$P"last 1 >/dev/null
  wait_until 10 seen_is "PUT b 1 PUT c 1 PUT y 1 PUT last 1" "$DIR/out"
}
test_watch_rev_replays_history() {
  local r
  r=$(revision)
  for i in 1 2 3; do ctl put "$P"a "$i" >/dev/null; done
  ctl_background "$DIR/out" watch "$P"a --rev "$((r + 2))"
  wait_until 10 seen_is "PUT a 2 PUT a 3" "$DIR/out"
  ctl put "$P"a 4 >/dev/null
  wait_until 10 seen_is "PUT a 2 PUT a 3 PUT a 4" "$DIR/out"
}
test_watch_prev_kv() {
  local r
  r=$(revision)
  ctl put "$P"a 1 >/dev/null
  ctl put "$P"a 2 >/dev/null
  ctl del "$P"a >/dev/null
  ctl_background "$DIR/out" watch "$P"a --prev-kv --rev "$((r + 1))"
  wait_until 10 seen_is "PUT a 1 PUT a 1 a 2 DELETE a 2 a" "$DIR/out"
}
test_watch_of_compacted_history() {
  ctl put "$P"a 1 >/dev/null
  ctl compaction "$(revision)" >/dev/null
  has 'required revision has been compacted' "$(ctl watch "$P"a --rev 1 2>&1 || true)"
}
test_watch_progress() {
  rm -f "$DIR/fifo"
  mkfifo "$DIR/fifo"
  exec 8<>"$DIR/fifo" # both ends, so that the client's input stays open
  timeout 30 "$CTL" --endpoints "$(endpoint 1)" --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" watch -i \
    <"$DIR/fifo" >"$DIR/out" 2>&1 9>&- &
  BACKGROUND+=("$!")
  echo "watch ${P}ready" >&8
  opened() { ctl put "${P}ready" now >/dev/null; grep -q ready "$DIR/out"; }
  wait_until 10 opened
  ctl put "$P"other 1 >/dev/null # which the watch does not see; its progress does
  progressed() {
    echo progress >&8
    sleep 0.2
    is "$(revision)" "$(sed -n 's/^progress notify: //p' "$DIR/out" | tail -n 1)"
  }
  wait_until 10 progressed
}
test_watch_exec() {
  local r
  r=$(revision)
  ctl put "$P"a one >/dev/null
  ctl_background "$DIR/out" watch "$P"a --rev "$((r + 1))" -- sh -c 'echo "saw $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE at $ETCD_WATCH_REVISION"'
  wait_until 10 file_has "$DIR/out" "saw \"PUT\" \"${P}a\" \"one\" at $((r + 1))"
}
test_watch_over_every_member() {
  local r i
  r=$(revision)
  for i in 1 2 3; do EP=$(endpoint "$i") ctl_background "$DIR/out$i" watch "$P"a --rev "$((r + 1))"; done
  ctl put "$P"a 1 >/dev/null
  for i in 1 2 3; do wait_until 10 seen_is "PUT a 1" "$DIR/out$i"; done
}

# ---- lease --------------------------------------------------------------------------------------------------------------
grant() { ctl lease grant "$1" | awk '{print $2}'; }
test_lease_grant_and_revoke() {
  local out lease
  out=$(ctl lease grant 100)
  like '^lease [0-9a-f]{10,16} granted with TTL\(100s\)$' "$out"
  lease=$(awk '{print $2}' <<<"$out")
  ctl put "$P"a 1 --lease "$lease" >/dev/null
  is "lease $lease revoked" "$(ctl lease revoke "$lease")"
  is "" "$(ctl get "$P"a)"
  refused 'etcdserver: requested lease not found' ctl lease revoke "$lease"
}
test_lease_timetolive_with_keys() {
  local lease
  lease=$(grant 100)
  ctl put "$P"b 1 --lease "$lease" >/dev/null
  ctl put "$P"a 1 --lease "$lease" >/dev/null
  like "^lease $lease granted with TTL\\(100s\\), remaining\\((100|9[0-9])s\\)\$" "$(ctl lease timetolive "$lease")"
  like "attached keys\\(\\[(${P}a ${P}b|${P}b ${P}a)\\]\\)" "$(ctl lease timetolive "$lease" --keys)"
  is "lease 00000000001234 already expired" "$(ctl lease timetolive 00000000001234 | sed 's/lease [0-9a-f]*/lease 00000000001234/')"
  ctl lease revoke "$lease" >/dev/null
}
test_lease_list() {
  local lease
  lease=$(grant 100)
  has "$lease" "$(ctl lease list)"
  ctl lease revoke "$lease" >/dev/null
  has_not "$lease" "$(ctl lease list)"
}
test_lease_keep_alive() {
  local lease
  lease=$(grant 2)
  is "lease $lease keepalived with TTL(2)" "$(ctl lease keep-alive --once "$lease")"
  ctl put "$P"a 1 --lease "$lease" >/dev/null
  ctl_background "$DIR/out" lease keep-alive "$lease"
  wait_until 12 file_lines "$DIR/out" 4 # longer than its time to live
  is "a 1" "$(short "$(ctl get "$P"a)")"
  kill "$BG"
  gone() { is "" "$(ctl get "$P"a)"; }
  wait_until 10 gone
  like 'expired|not found' "$(ctl lease keep-alive --once "$lease" 2>&1)"
}
test_lease_keep_alive_over_a_follower() {
  local lease
  lease=$(grant 60)
  is "lease $lease keepalived with TTL(60)" "$(at "$(follower)" lease keep-alive --once "$lease")"
  like "remaining\\((60|5[0-9])s\\)" "$(at "$(follower)" lease timetolive "$lease")"
  ctl lease revoke "$lease" >/dev/null
}

# ---- lock and elect -----------------------------------------------------------------------------------------------------
test_lock() {
  like "^${P}mutex/[0-9a-f]+$" "$(ctl lock "$P"mutex -- sh -c 'echo "$ETCD_LOCK_KEY"')"
  is "" "$(ctl get "$P"mutex --prefix)" 'given back'
  ctl lock "$P"mutex -- sh -c 'exit 7' >/dev/null 2>&1 && fail 'the exit status of the command is lost'
  return 0
}
test_lock_keeps_others_out() {
  ctl_background "$DIR/out1" lock "$P"mutex
  local first=$BG
  wait_until 10 file_lines "$DIR/out1" 1
  ctl_background "$DIR/out2" lock "$P"mutex
  waiting() { is 2 "$(ctl get "$P"mutex --prefix --keys-only | grep -c .)"; }
  wait_until 10 waiting
  is 0 "$(wc -l <"$DIR/out2")" 'the second waits'
  kill "$first"
  wait_until 10 file_lines "$DIR/out2" 1
}
test_elect() {
  ctl_background "$DIR/out1" elect "$P"office first
  local first=$BG
  wait_until 10 file_has "$DIR/out1" first
  ctl_background "$DIR/out2" elect "$P"office second
  waiting() { is 2 "$(ctl get "$P"office --prefix --keys-only | grep -c .)"; }
  wait_until 10 waiting
  ctl_background "$DIR/out3" elect -l "$P"office
  wait_until 10 file_has "$DIR/out3" first
  is 0 "$(wc -l <"$DIR/out2")" 'the second is no leader'
  kill "$first"
  wait_until 10 file_has "$DIR/out2" second
  wait_until 10 file_has "$DIR/out3" second
}

# ---- make-mirror --------------------------------------------------------------------------------------------------------
test_make_mirror() {
  ctl put "$P"from/a 1 >/dev/null
  ctl_background "$DIR/out" make-mirror --prefix "$P"from/ --dest-prefix "$P"to/ --dest-cacert "$DIR/ca.crt" --dest-cert "$DIR/client.crt" \
    --dest-key "$DIR/client.key" "$(endpoint 2)"
  mirrored() { is "$1" "$(short "$(ctl get "$P"to/ --prefix)")"; }
  wait_until 10 mirrored "to/a 1"
  ctl put "$P"from/b 2 >/dev/null
  ctl del "$P"from/a >/dev/null
  wait_until 10 mirrored "to/b 2"
}
