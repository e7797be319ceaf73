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
