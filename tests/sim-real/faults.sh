# The faults of sim-real. Sourced by tests/sim-real/inside; chance is $RANDOM, seeded.

KINDS='kill-follower kill-leader kill-majority kill-all pause-leader pause-follower isolate-leader isolate-follower cut-off-leader
one-way-out one-way-in slow disk-full-follower disk-full-leader quota replace replace-by-learner move-leader defrag compact snapshot'
declare -A done_count failed_count

pick() { shift $((RANDOM % $#)); echo "$1"; }
others() { for o in 1 2 3; do [ "$o" = "$1" ] || echo "$o"; done; }
the_leader() { # patiently
  local lead
  for _ in 1 2 3 4 5 6 7 8; do
    lead=$(leader)
    [ -z "$lead" ] || { echo "$lead"; return 0; }
    sleep 0.5
  done
  return 1
}
follower() { # a member that is not the leader
  local lead
  lead=$(the_leader)
  # shellcheck disable=SC2046
  [ -n "$lead" ] && pick $(others "$lead")
}
pid_of() { cat "$D/m$1/pid"; }
signal() { # signal member
  local pid
  pid=$(pid_of "$2")
  [ -n "$pid" ] && kill "-$1" "$pid" 2>/dev/null
}
hold() { touch "$D/m$1/hold"; }
release() { rm -f "$D/m$1/hold"; }
nap() { sleep "$(($1 + RANDOM % ($2 - $1 + 1)))"; }

# ---- networks -------------------------------------------------------------------------------------------------------
# Drops what goes between a member and the others; clients still reach all. directions: input, output or both
cut() { # member directions
  local direction
  {
    echo 'table inet cut {'
    for direction in $2; do
      echo "chain $direction { type filter hook $direction priority 0;"
      for o in $(others "$1"); do
        [ "$direction" = input ] && echo "ip saddr $NET.$o drop" || echo "ip daddr $NET.$o drop"
      done
      echo '}'
    done
    echo '}'
  } | ip netns exec "m$1" nft -f -
}
mend() { ip netns exec "m$1" nft delete table inet cut 2>/dev/null; }
unplug() { ip link set "v$1" down; }
plug() { ip link set "v$1" up; }
slow() { tc qdisc replace dev "v$1" root tbf rate 400kbit burst 8k latency 300ms; ip netns exec "m$1" tc qdisc replace dev eth0 root tbf rate 400kbit burst 8k latency 300ms; }
unslow() { tc qdisc del dev "v$1" root 2>/dev/null; ip netns exec "m$1" tc qdisc del dev eth0 root 2>/dev/null; }

# ---- disks ----------------------------------------------------------------------------------------------------------
fill() { dd if=/dev/zero of="$D/m$1/disk/ballast" bs=1M 2>/dev/null; dd if=/dev/zero of="$D/m$1/disk/ballast2" bs=4k 2>/dev/null; }
unfill() { rm -f "$D/m$1/disk/ballast" "$D/m$1/disk/ballast2"; }
# What an operator does on the NOSPACE alarm: forget history, give space back, put the alarm out.
relieve() {
  local i round
  for round in 1 2 3 4 5; do
    [ -n "$(ctl all alarm list)" ] || return 0
    tell compact 5
    sleep 1
    for i in 1 2 3; do CTL_TIMEOUT=15s ctl "$i" defrag >/dev/null; done
    ctl all alarm disarm >/dev/null
    sleep 1
  done
  return 1
}

heal_all() {
  local i
  for i in 1 2 3; do
    mend $i
    plug $i
    unslow $i
    unfill $i
    signal CONT $i
    release $i
  done
}

# ---- faults: each ends with the fault still there or over; heal_all follows ------------------------------------------------
fault_kill-follower() { local f; f=$(follower) || return 1; signal KILL "$f"; nap 2 4; }
fault_kill-leader() {
  local l; l=$(the_leader); [ -n "$l" ] || return 1
  [ $((RANDOM % 2)) -eq 0 ] || hold "$l"
  signal KILL "$l"; tell lost; nap 4 5
}
fault_kill-majority() { local l f; l=$(the_leader); f=$(follower) || return 1; hold "$l"; hold "$f"; signal KILL "$l"; signal KILL "$f"; nap 2 4; }
fault_kill-all() { local i; for i in 1 2 3; do hold $i; done; for i in 1 2 3; do signal KILL $i; done; nap 1 3; }
fault_pause-leader() { local l; l=$(the_leader); [ -n "$l" ] || return 1; signal STOP "$l"; tell lost; nap 4 7; }
fault_pause-follower() { local f; f=$(follower) || return 1; signal STOP "$f"; nap 3 6; }
fault_isolate-leader() { local l; l=$(the_leader); [ -n "$l" ] || return 1; cut "$l" 'input output' && tell lost; nap 4 7; }
fault_isolate-follower() { local f; f=$(follower) || return 1; cut "$f" 'input output'; nap 4 7; }
fault_cut-off-leader() { local l; l=$(the_leader); [ -n "$l" ] || return 1; unplug "$l"; tell lost; nap 4 7; }
fault_one-way-out() { local l; l=$(the_leader); [ -n "$l" ] || return 1; cut "$(pick "$l" 1 2 3)" output; nap 4 7; }
fault_one-way-in() { local l; l=$(the_leader); [ -n "$l" ] || return 1; cut "$(pick "$l" 1 2 3)" input; nap 4 7; }
fault_slow() { slow "$(pick 1 2 3)"; nap 4 7; }
disk_full() { # member
  fill "$1"
  tell bloat
  nap 4 6
  unfill "$1"
  sleep 3
  relieve
}
fault_disk-full-follower() { local f; f=$(follower) || return 1; disk_full "$f"; }
fault_disk-full-leader() { local l; l=$(the_leader); [ -n "$l" ] || return 1; disk_full "$l"; }
fault_quota() {
  local i
  tell bloat
  for i in $(seq 40); do
    [ -z "$(ctl all alarm list)" ] || break
    sleep 0.5
  done
  relieve
}
# A member goes for good and a new one with an empty disk comes, under a new name.
generation=0
replace() { # how
  local f id o name cluster list='' i
  f=$(follower) || return 1
  o=$(pick $(others "$f"))
  read -r id _ < <(status_of "$f") || return 1
  id=$(printf '%x' "$id")
  hold "$f"
  signal KILL "$f"
  for i in $(seq 20); do
    ctl "$o" member remove "$id" >/dev/null && break
    [ "$i" -lt 20 ] || { problem "member remove refused 20 times"; return 1; }
    sleep 1
  done
  rm -rf "$D/m$f/disk/data"
  generation=$((generation + 1))
  name=n$f-$generation
  for i in $(seq 20); do
    ctl "$o" member add "$name" --peer-urls "https://$NET.$f:2380" $1 >/dev/null && break
    [ "$i" -lt 20 ] || { problem "member add refused 20 times"; return 1; }
    sleep 1
  done
  for i in $(others "$f"); do list=$list,$(cat "$D/m$i/name")=https://$NET.$i:2380; done
  cluster=$name=https://$NET.$f:2380$list
  echo "$name" >"$D/m$f/name"
  echo existing >"$D/m$f/state"
  echo "$cluster" >"$D/m$f/cluster"
  release "$f"
  [ -n "$1" ] || return 0
  for i in $(seq 30); do
    sleep 1
    read -r id _ < <(status_of "$f") || continue
    ctl "$o" member promote "$(printf '%x' "$id")" >/dev/null && return 0
  done
  problem "the learner $name was not promoted within 30 s"
  return 1
}
fault_replace() { replace ''; }
fault_replace-by-learner() { replace --learner; }
fault_move-leader() {
  local l f id
  l=$(the_leader); f=$(follower) || return 1
  read -r id _ < <(status_of "$f") || return 1
  ctl "$l" move-leader "$(printf '%x' "$id")" >/dev/null
}
fault_defrag() { CTL_TIMEOUT=15s ctl "$(pick 1 2 3)" defrag >/dev/null; }
fault_compact() { tell compact $((RANDOM % 2000)); sleep 1; }
fault_snapshot() {
  local file=$D/snapshot.db
  CTL_TIMEOUT=15s ctl "$(pick 1 2 3)" snapshot save "$file" >/dev/null && [ -s "$file" ]
  local rc=$?
  rm -f "$file"
  return $rc
}

# ---- the sequence: a shuffled deck of all kinds, again and again ----------------------------------------------------------
shuffle() { for k in "$@"; do echo "$((RANDOM * 32768 + RANDOM)) $k"; done | sort -n | cut_words; }
cut_words() { while read -r _ k; do echo "$k"; done; }
run_faults() { # seconds
  local began=$SECONDS deck='' kind
  while [ $((SECONDS - began)) -lt "$1" ]; do
    # shellcheck disable=SC2086
    [ -n "$deck" ] || deck=$(shuffle ${FAULTS:-$KINDS} | tr '\n' ' ')
    kind=${deck%% *}
    deck=${deck#* }
    deck=${deck# }
    tell "note fault $kind"
    echo "$((SECONDS - began)) $kind" >>"$D/faults"
    if "fault_$kind"; then done_count[$kind]=$((${done_count[$kind]:-0} + 1))
    else
      failed_count[$kind]=$((${failed_count[$kind]:-0} + 1))
      echo "sim-real: at $((SECONDS - began)) s: $kind was not done" | tee -a "$D/faults"
    fi
    heal_all
    tell "note healed"
    wait_healthy 40 || problem "not healthy 40 s after $kind"
    relieve || problem "the NOSPACE alarm does not go after $kind"
    tell compact 20000
    nap 1 3
  done
}
fault_table() {
  local kind
  for kind in $KINDS; do
    [ -z "${done_count[$kind]:-}${failed_count[$kind]:-}" ] ||
      printf '%-22s %3d%s\n' "$kind" "${done_count[$kind]:-0}" "${failed_count[$kind]:+   (not done: ${failed_count[$kind]})}"
  done
}
