# etcdctl on keys: put, get, del, txn, compaction.
# shellcheck shell=bash

five_keys() { # k1 .. k5 under $P, k1 written three times, values in the opposite order
  ctl put "$P"k1 x >/dev/null
  ctl put "$P"k1 y >/dev/null
  for i in 1 2 3 4 5; do ctl put "${P}k$i" "v$((9 - i))" >/dev/null; done
}
short() { lines "$*" | sed "s#$P##g"; }

# ---- put ----------------------------------------------------------------------------------------------------------------
test_put() {
  is OK "$(ctl put "$P"a 1)"
  is "a 1" "$(short "$(ctl get "$P"a)")"
  is OK "$(ctl put "$P"empty '')"
  is 0 "$(ctl get "$P"empty -w fields | grep -c '"Value" : "."')"
  is "OK" "$(printf 'from\nstdin' | ctl put "$P"stdin)"
  is "$(printf 'from\nstdin')" "$(ctl get "$P"stdin --print-value-only)"
}
test_put_prev_kv() {
  is OK "$(lines "$(ctl put "$P"a 1 --prev-kv)")"
  is "OK a 1" "$(short "$(ctl put "$P"a 2 --prev-kv)")"
}
test_put_ignore_value_and_lease() {
  local lease
  lease=$(ctl lease grant 100 | awk '{print $2}')
  ctl put "$P"a 1 --lease "$lease" >/dev/null
  is OK "$(ctl put "$P"a 2 --ignore-lease)"
  has "attached keys([${P}a])" "$(ctl lease timetolive "$lease" --keys)"
  is OK "$(ctl put "$P"a --ignore-value)"
  is "a 2" "$(short "$(ctl get "$P"a)")"
  has "attached keys([])" "$(ctl lease timetolive "$lease" --keys)"
  ctl lease revoke "$lease" >/dev/null
}

# ---- get ----------------------------------------------------------------------------------------------------------------
test_get_prefix() { five_keys; ctl put "${P}l" other >/dev/null; is "k1 v8 k2 v7 k3 v6 k4 v5 k5 v4" "$(short "$(ctl get "${P}k" --prefix)")"; }
test_get_range() { five_keys; is "k2 k3" "$(short "$(ctl get "$P"k2 "$P"k4 --keys-only)")"; }
test_get_from_key() { five_keys; is "k4 v5 k5 v4" "$(short "$(ctl get "$P"k4 --from-key --limit 2)")"; }
test_get_rev() {
  local r
  ctl put "$P"a 1 >/dev/null
  r=$(revision)
  ctl put "$P"a 2 >/dev/null
  ctl del "$P"a >/dev/null
  is "a 1" "$(short "$(ctl get "$P"a --rev "$r")")"
  is "a 2" "$(short "$(ctl get "$P"a --rev "$((r + 1))")")"
  is "" "$(ctl get "$P"a)"
}
test_get_sort() {
  five_keys
  local by order
  while read -r by order want; do
    is "$want" "$(short "$(ctl get "${P}k" --prefix --keys-only --sort-by "$by" --order "$order")")" "$by $order"
  done <<'TABLE'
KEY ASCEND k1 k2 k3 k4 k5
KEY DESCEND k5 k4 k3 k2 k1
VALUE ASCEND k5 k4 k3 k2 k1
VALUE DESCEND k1 k2 k3 k4 k5
CREATE DESCEND k5 k4 k3 k2 k1
MODIFY ASCEND k1 k2 k3 k4 k5
VERSION ASCEND k2 k3 k4 k5 k1
TABLE
  is "k1" "$(short "$(ctl get "${P}k" --prefix --keys-only --sort-by VERSION --order DESCEND --limit 1)")"
}
test_get_limit() {
  five_keys
  is "k1 k2" "$(short "$(ctl get "${P}k" --prefix --limit 2 --keys-only)")"
  like '"More" : true' "$(ctl get "${P}k" --prefix --limit 2 -w fields)"
  like '"Count" : 5' "$(ctl get "${P}k" --prefix --limit 2 -w fields)"
  like '"More" : false' "$(ctl get "${P}k" --prefix --limit 5 -w fields)"
}
test_get_count_only() { # Debian's has no such flag
  five_keys
  case $CTL_VERSION in
  3.4.*) like '"count":5' "$(ctl get "${P}k" --prefix --limit 1 --keys-only -w json)" ;;
  *)
    has '"Count" : 5' "$(ctl get "${P}k" --prefix --count-only -w fields)"
    has_not '"Key"' "$(ctl get "${P}k" --prefix --count-only -w fields)"
    ;;
  esac
}
test_get_keys_only_and_print_value_only() {
  five_keys
  is "k1 k2 k3 k4 k5" "$(short "$(ctl get "${P}k" --prefix --keys-only)")"
  is "v8 v7 v6 v5 v4" "$(short "$(ctl get "${P}k" --prefix --print-value-only)")"
}
test_get_consistency() {
  ctl put "$P"a 1 >/dev/null
  is "a 1" "$(short "$(ctl get "$P"a --consistency=l)")"
  serializable_everywhere() { for i in 1 2 3; do is "a 1" "$(short "$(at "$i" get "$P"a --consistency=s)")"; done; }
  wait_until 5 serializable_everywhere
}
test_get_over_a_follower() {
  local f i
  f=$(follower)
  for i in 1 2 3 4 5; do
    at "$(leader)" put "$P"a "$i" >/dev/null
    is "a $i" "$(short "$(at "$f" get "$P"a)")" 'a linearizable read of a follower'
  done
  is OK "$(at "$f" put "$P"b 1)" 'a write through a follower'
  is "b 1" "$(short "$(at "$(leader)" get "$P"b)")"
}
test_get_fields_and_json() {
  ctl put "$P"a 1 >/dev/null
  ctl put "$P"a 2 >/dev/null
  local out r
  r=$(revision)
  out=$(ctl get "$P"a -w fields)
  has "\"ModRevision\" : $r" "$out"
  has "\"CreateRevision\" : $((r - 1))" "$out"
  has '"Version" : 2' "$out"
  out=$(ctl get "$P"a -w json)
  has "\"key\":\"$(printf %s "$P"a | base64)\"" "$out"
  has "\"mod_revision\":$r,\"version\":2,\"value\":\"Mg==\"" "$out"
  has "\\x61" "$(ctl get "$P"a --hex)"
}

# ---- del ----------------------------------------------------------------------------------------------------------------
test_del() {
  ctl put "$P"a 1 >/dev/null
  is 1 "$(ctl del "$P"a)"
  is 0 "$(ctl del "$P"a)"
  is "" "$(ctl get "$P"a)"
}
test_del_prefix() { five_keys; is 5 "$(ctl del "${P}k" --prefix)"; is "" "$(ctl get "${P}k" --prefix)"; }
test_del_range() { five_keys; is 3 "$(ctl del "$P"k2 "$P"k5)"; is "k1 k5" "$(short "$(ctl get "${P}k" --prefix --keys-only)")"; }
test_del_prev_kv() { five_keys; is "2 k4 v5 k5 v4" "$(short "$(ctl del "$P"k4 "$P"k6 --prev-kv)")"; }

# ---- txn ----------------------------------------------------------------------------------------------------------------
txn() { printf '%b' "$1" | ctl txn; } # "compares\n\nsuccess\n\nfailure\n\n"
test_txn_compare_value() {
  ctl put "$P"a 5 >/dev/null
  local op
  for op in '= "5"' '> "4"' '< "6"' '!= "4"'; do is SUCCESS "$(txn "value(\"${P}a\") $op\n\n\n\n" | head -n 1)" "$op"; done
  for op in '= "4"' '> "5"' '< "5"' '!= "5"'; do is FAILURE "$(txn "value(\"${P}a\") $op\n\n\n\n" | head -n 1)" "$op"; done
}
test_txn_compare_version_create_mod() {
  ctl put "$P"a 1 >/dev/null
  ctl put "$P"a 2 >/dev/null
  local r
  r=$(revision)
  is SUCCESS "$(txn "ver(\"${P}a\") = \"2\"\n\n\n\n" | head -n 1)"
  is FAILURE "$(txn "ver(\"${P}a\") > \"2\"\n\n\n\n" | head -n 1)"
  is SUCCESS "$(txn "create(\"${P}a\") = \"$((r - 1))\"\n\n\n\n" | head -n 1)"
  is FAILURE "$(txn "c(\"${P}a\") = \"$r\"\n\n\n\n" | head -n 1)"
  is SUCCESS "$(txn "mod(\"${P}a\") = \"$r\"\n\n\n\n" | head -n 1)"
  is FAILURE "$(txn "mod(\"${P}a\") < \"$r\"\n\n\n\n" | head -n 1)"
  is SUCCESS "$(txn "create(\"${P}none\") = \"0\"\n\n\n\n" | head -n 1)"
  is SUCCESS "$(txn "version(\"${P}none\") = \"0\"\nmod(\"${P}a\") = \"$r\"\n\n\n\n" | head -n 1)"
}
test_txn_success_and_failure_branches() {
  ctl put "$P"a 1 >/dev/null
  is "SUCCESS OK a 1 OK" "$(short "$(txn "value(\"${P}a\") = \"1\"\n\nput ${P}b yes\nget ${P}a\nput ${P}c z\n\nput ${P}b no\n\n")")"
  is "FAILURE b yes 1" "$(short "$(txn "value(\"${P}a\") = \"2\"\n\nput ${P}b never\n\nget ${P}b\ndel ${P}c\n\n")")"
  is "a 1 b yes" "$(short "$(ctl get "$P" --prefix)")"
}
test_txn_is_one_revision() {
  local r
  txn "\n put ${P}a 1\nput ${P}b 2\ndel ${P}none\n\n\n" >/dev/null
  r=$(revision)
  is "a b" "$(short "$(ctl get "$P" --prefix --keys-only --rev "$r")")"
  is "" "$(ctl get "$P" --prefix --keys-only --rev "$((r - 1))")"
  has "\"ModRevision\" : $r" "$(ctl get "$P"b -w fields)"
}
test_txn_range_and_prefix_operations() {
  five_keys
  is "SUCCESS k5 v4 k4 v5 2 k1 v8 k2 v7" "$(short "$(txn "\nget ${P}k --prefix --order DESCEND --sort-by KEY --limit 2\ndel ${P}k1 ${P}k3 --prev-kv\n\n\n")")"
}
test_txn_interactive() {
  has "SUCCESS" "$(txn "value(\"${P}none\") = \"1\"\n\n\nput ${P}a 1\n\n" >/dev/null; printf 'mod("%s") > "0"\n\nget %s\n\n\n' "${P}a" "${P}a" | ctl txn -i)"
}

# ---- compaction ---------------------------------------------------------------------------------------------------------
test_compaction() {
  local r
  ctl put "$P"a 1 >/dev/null
  ctl put "$P"a 2 >/dev/null
  r=$(revision)
  is "compacted revision $r" "$(ctl compaction "$r")"
  refused 'etcdserver: mvcc: required revision has been compacted' ctl get "$P"a --rev "$((r - 1))"
  is "a 2" "$(short "$(ctl get "$P"a --rev "$r")")"
}
test_compaction_physical() {
  local r
  five_keys
  r=$(revision)
  is "compacted revision $r" "$(ctl compaction "$r" --physical)"
  refused 'etcdserver: mvcc: required revision has been compacted' ctl compaction "$r"
  is "k1 k2 k3 k4 k5" "$(short "$(ctl get "${P}k" --prefix --keys-only)")"
  wait_until 5 hashes_equal
}
