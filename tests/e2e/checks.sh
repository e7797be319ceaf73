# What the scripts that print "ok - ..." themselves share: checks that count, waiting, kubectl with a time limit.
# shellcheck shell=bash disable=SC2034
PASSED=0 FAILED=0
ok() { echo "ok - $1"; PASSED=$((PASSED + 1)); }
not_ok() { echo "not ok - $1${2:+: $2}"; FAILED=$((FAILED + 1)); }
result() { if [ "$1" = 0 ]; then ok "$2"; else not_ok "$2" "${3:-}"; fi; } # status, what, what to show when it failed
is() { if [ "$1" = "$2" ]; then ok "$3"; else not_ok "$3" "expected \"$1\", got \"$2\""; fi; }
k() { timeout 20 "$KUBECTL" "$@"; }
eventually() { # SECONDS COMMAND...: until it succeeds
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.2
  done
}
now_ms() { echo $(($(date +%s%N) / 1000000)); }

# With cgroup v1 all virtual machines of libvirt together weigh as much as one process of the host (docs/libvirt.md). Does nothing elsewhere.
MACHINES_SHARES=/sys/fs/cgroup/cpu/machine/cpu.shares
MACHINES_SHARES_BEFORE=''
machines_weigh() {
  [ -w $MACHINES_SHARES ] && [ -z "$MACHINES_SHARES_BEFORE" ] || return 0
  MACHINES_SHARES_BEFORE=$(cat $MACHINES_SHARES)
  echo 60000 >$MACHINES_SHARES
  echo "# $MACHINES_SHARES: 60000 instead of $MACHINES_SHARES_BEFORE"
}
machines_weigh_as_before() { [ -z "$MACHINES_SHARES_BEFORE" ] || [ ! -w $MACHINES_SHARES ] || echo "$MACHINES_SHARES_BEFORE" >$MACHINES_SHARES; }

# ---- the API by curl, with the administrator's certificates: an answer's time tells, and a certificate may be swapped on the way
split_kubeconfig() { # kubeconfig, folder: its certificates as ca.crt, client.crt and client.key there; sets SERVER
  local part
  mkdir -p "$2"
  for part in certificate-authority-data:ca.crt client-certificate-data:client.crt client-key-data:client.key; do
    timeout 20 "$KUBECTL" --kubeconfig "$1" config view --raw --minify -o yaml | sed -n "s/^ *${part%%:*}: //p" | base64 -d >"$2/${part#*:}"
  done
  SERVER=$(timeout 20 "$KUBECTL" --kubeconfig "$1" config view --minify -o 'jsonpath={.clusters[0].cluster.server}')
}
api() { # curl's arguments; certificates of $CERTS, or of $DIR
  local certs=${CERTS:-$DIR}
  curl -sf -m "${API_SECONDS:-1}" --connect-timeout 1 --cacert "$certs/ca.crt" --cert "$certs/client.crt" --key "$certs/client.key" "$@"
}
writer() { # name, file, pause: while the file is there one ConfigMap after another; those acknowledged are noted in $DIR/acked with their time,
  local i=0 status # of the others in $DIR/unacked when they ended, and curl's exit status
  while [ -e "$2" ]; do
    i=$((i + 1))
    if api -X POST -H 'Content-Type: application/json' -o /dev/null \
      -d '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"w-'"$1-$i"'"}}' "$SERVER/api/v1/namespaces/default/configmaps"; then
      echo "$(now_ms) w-$1-$i" >>"$DIR/acked"
    else
      status=$?
      echo "$(now_ms) $status" >>"$DIR/unacked"
    fi
    sleep "$3"
  done
}
longest_gap() { # from-ms: the longest time without an acknowledged write since
  awk -v from="$1" -v now="$(now_ms)" 'BEGIN { last = from } $1 >= from { if ($1 - last > gap) gap = $1 - last; last = $1 } END { if (now - last > gap) gap = now - last; print gap + 0 }' "$DIR/acked"
}
unacked() { # from-ms: how many writes were not acknowledged since, by curl's exit status
  awk -v from="$1" '$1 >= from { n[$2]++ } END { for (s in n) printf "%s%d of status %s", (i++ ? ", " : ""), n[s], s; if (!i) print "none" }' "$DIR/unacked" 2>/dev/null
}
nothing_lost() { # where, server [until-ms]: every acknowledged write is there
  local lost
  awk -v until="${3:-0}" '!until || $1 < until { print $2 }' "$DIR/acked" | LC_ALL=C sort >"$DIR/wanted"
  api -m 20 "$2/api/v1/namespaces/default/configmaps" | grep -o '"name": *"w-[a-z]*-[0-9]*"' | sed 's/.*"\(w-.*\)"/\1/' | LC_ALL=C sort >"$DIR/there"
  lost=$(LC_ALL=C comm -23 "$DIR/wanted" "$DIR/there" | wc -l)
  [ "$lost" = 0 ] && [ -s "$DIR/wanted" ]
  result $? "all $(wc -l <"$DIR/wanted") acknowledged writes are $1" "$lost are not"
}
