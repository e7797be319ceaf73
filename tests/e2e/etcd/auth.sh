#!/usr/bin/env bash
# Users and roles on one member: every answer beside a stock etcd's, signed tokens, the life of simple ones, secrets kept.
# ETCD=file runs it against another server; ETCD_TEST=part picks tests by name.
set -u
cd "$(dirname "$0")/../../.." || exit 1
. tests/e2e/etcd/lib.sh

as() { ctl --user "$1" "${@:2}"; } # name:password, command
root() { as root:rootpw "$@"; }
one_member() { # binary [flags]
  MEMBER_BINARY=$1
  new_cluster 1 --bcrypt-cost 4 "${@:2}"
}
users_on() {
  ctl user add root:rootpw >/dev/null
  ctl user grant-role root root >/dev/null
  ctl auth enable >/dev/null
}

# ---- the same answers ---------------------------------------------------------------------------------------------------
# One command a line: who asks (- for the certificate alone), then the command; what a transaction reads is after "<".
SCRIPT='
- auth enable
- user add root:rootpw
- user add root:again
- user grant-role root nope
- user grant-role root root
- role add root
- role add root
- role add r
- role grant-permission r readwrite /a
- role grant-permission r read /b/ /b0
- role grant-permission r write --prefix /c/
- role grant-permission r read --from-key z
- role grant-permission r read /x /w
- role grant-permission nosuch read /x
- role get r
- role revoke-permission r /nope
- role revoke-permission nosuch /nope
- user add alice:pw
- user add bob --no-password
- user grant-role alice r
- user grant-role alice r
- user grant-role nosuch r
- user grant-role alice nosuch
- user revoke-role alice nosuch
- user get alice
- user get nosuch
- user delete nosuch
- put /a before
- auth enable
- get /a
- auth enable
root:rootpw auth enable
alice:pw get /a
alice:pw put /a x
alice:pw put /d x
alice:pw get /d
alice:pw get /b/ --prefix
alice:pw get /b
alice:pw put /b/1 x
alice:pw put /c/1 x
alice:pw put --prev-kv /c/1 x
alice:pw get /c/1
alice:pw get zzz
alice:pw get z --from-key
alice:pw get y --from-key
alice:pw del /a
alice:pw del --prev-kv /c/ --prefix
alice:pw del /c/ --prefix
nobody:pw get /a
alice:wrong get /a
bob:pw get /a
alice:pw user list
alice:pw role list
alice:pw user get alice
alice:pw user get root
alice:pw role get r
alice:pw role get root
alice:pw user add eve:x
alice:pw user delete bob
alice:pw auth disable
alice:pw compaction 1
alice:pw alarm list
alice:pw alarm disarm
alice:pw lease list
alice:pw txn < val("/a") = "x"\n\nput /a y\nget /a\n\nput /a z\n\n
alice:pw txn < val("/d") = "x"\n\nput /a y\n\nput /a z\n\n
alice:pw txn < val("/a") = "x"\n\nput /a y\n\nput /d z\n\n
alice:pw txn < \n\nget /a\n\n\n\n
alice:pw txn < \n\nget /d\n\n\n\n
root:rootpw get / --prefix
root:rootpw user delete root
root:rootpw user revoke-role root root
root:rootpw role delete root
root:rootpw role delete nosuch
alice:pw user passwd alice --interactive=false < new\n
root:rootpw user passwd alice --interactive=false < new\n
alice:pw get /a
alice:new get /a
root:rootpw role revoke-permission r --prefix /c/
root:rootpw role revoke-permission r --from-key z
root:rootpw role get r
alice:new put /c/1 2
alice:new watch /d
root:rootpw user revoke-role alice r
alice:new get /a
root:rootpw user grant-role alice root
alice:new get /a
alice:new user list
root:rootpw role delete r
root:rootpw user get alice
root:rootpw user delete alice
alice:new get /a
root:rootpw user list
root:rootpw role list
root:rootpw auth disable
- auth disable
- get /a
- user list
'
# Error texts without the client's own log lines, of which each carries times and addresses.
answer() { grep -v '^{"level":' | sed -E 's/127\.0\.0\.1:[0-9]+/ADDRESS/g'; }
ask_all() {
  local who command input
  while read -r who command; do
    [ -n "$who" ] || continue
    input=${command#*< }
    [ "$input" = "$command" ] && input=''
    read -ra words <<<"${command%%< *}"
    echo "$who> $command"
    [ "$who" = - ] && who=() || who=(--user "$who")
    printf "${input//%/%%}" | CTL_TIMEOUT=10 ctl "${who[@]}" "${words[@]}" 2>&1 | answer
    echo "status ${PIPESTATUS[1]}"
  done <<<"$SCRIPT"
}
test_answers_are_those_of_a_stock_etcd() {
  one_member "$STOCK/etcd"
  ask_all >"$DIR/answers-stock"
  one_member "$ETCD"
  ask_all >"$DIR/answers"
  [ "$(grep -c '^status' "$DIR/answers")" -gt 90 ] || fail 'too few answers'
  diff "$DIR/answers-stock" "$DIR/answers" || fail 'answers differ from those of a stock etcd'
}

# ---- tokens -------------------------------------------------------------------------------------------------------------
test_signed_tokens_of_each_method() {
  local method
  openssl genrsa -out "$DIR/rsa.key" 2048 2>/dev/null
  openssl rsa -in "$DIR/rsa.key" -pubout -out "$DIR/rsa.pub" 2>/dev/null
  openssl ecparam -name secp384r1 -genkey -noout -out "$DIR/ec.key"
  openssl ec -in "$DIR/ec.key" -pubout -out "$DIR/ec.pub" 2>/dev/null
  for method in rsa:RS256 rsa:PS512 ec:ES384; do
    one_member "$ETCD" --auth-token "jwt,pub-key=$DIR/${method%:*}.pub,priv-key=$DIR/${method%:*}.key,sign-method=${method#*:},ttl=10m"
    users_on
    is OK "$(root put k v 2>&1)"
    refused 'etcdserver: authentication failed, invalid user ID or password' as root:wrong get k
    # Good over a restart, unlike a simple one; but not after users changed.
    token=$(authenticate root rootpw)
    has v "$(with_token "$token" k)"
    member_stop 1 TERM
    member_start 1 --bcrypt-cost 4 --initial-cluster "$INITIAL" --auth-token \
      "jwt,pub-key=$DIR/${method%:*}.pub,priv-key=$DIR/${method%:*}.key,sign-method=${method#*:},ttl=10m"
    wait_until 10 root get k
    has v "$(with_token "$token" k)"
    root user add "eve:x" >/dev/null
    has 'revision of auth store is old' "$(with_token "$token" k)"
  done
}
# The calls themselves: node speaks gRPC by hand where etcdctl would hide the token.
authenticate() { # name password
  grpc /etcdserverpb.Auth/Authenticate "$(field 1 "$1")$(field 2 "$2")" | strings -n 12 | grep -oE '[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]+' | tail -n 1
}
with_token() { grpc /etcdserverpb.KV/Range "$(field 1 "$2")" -H "token: $1"; }
field() { printf '%02x%02x%s' $(($1 * 8 + 2)) ${#2} "$(printf %s "$2" | xxd -p | tr -d '\n')"; } # a short string, in hex
grpc() { # path, message in hex, further arguments of curl: body and grpc-message
  printf '%010x%s' $((${#2} / 2)) "$2" | xxd -r -p >"$DIR/request"
  curl -sS -m 10 --http2 --cacert "$DIR/ca.crt" --cert "$DIR/client.crt" --key "$DIR/client.key" -H 'content-type: application/grpc' -H 'te: trailers' \
    -D "$DIR/headers" --data-binary "@$DIR/request" "$(endpoint 1)$1" "${@:3}" | tr -d '\0'
  sed -n 's/^grpc-message: //p' "$DIR/headers" | sed 's/%20/ /g'
}
test_a_simple_token_ends_some_time_after_its_last_use() {
  one_member "$ETCD" --auth-token-ttl 2
  users_on
  root put k v >/dev/null
  local token i
  token=$(authenticate root rootpw)
  for i in 1 2 3 4; do
    sleep 1
    has v "$(with_token "$token" k)"
  done
  sleep 3
  has 'invalid auth token' "$(with_token "$token" k)"
}
test_bad_token_flags_are_refused() {
  MEMBER_BINARY=$ETCD CLIENT_PORT[9]=$(free_port) PEER_PORT[9]=$(free_port) TOKEN=t
  local flag
  for flag in complex jwt jwt,sign-method=none jwt,sign-method=RS256 "jwt,sign-method=RS256,priv-key=$DIR/no-such-file" \
    "jwt,sign-method=ES256,priv-key=$DIR/server.crt"; do
    member_command 9 --initial-cluster "m9=$(peer_url 9)" --auth-token "$flag"
    refused auth-token timeout 10 "${COMMAND[@]}"
  done
}

# ---- secrets ------------------------------------------------------------------------------------------------------------
test_no_password_and_no_token_is_written_down() {
  one_member "$ETCD" --log-level debug
  users_on
  root user add alice:Sehr-Geheim >/dev/null
  refused 'authentication failed' as alice:Auch-Geheim get k
  echo Noch-Geheimer | root user passwd alice --interactive=false >/dev/null
  local token
  token=$(authenticate root rootpw)
  has . "$token"
  with_token "${token%?}x" k >/dev/null
  root put k v >/dev/null
  member_stop 1 TERM
  if grep -arlE 'Sehr-Geheim|Auch-Geheim|Noch-Geheimer|rootpw' "$DIR"/m1 "$DIR"/m1.log; then fail 'a password was written'; fi
  if grep -alF "${token%.*}" "$DIR"/m1.log; then fail 'a token was logged'; fi
}

for tool in xxd strings; do command -v "$tool" >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }; done
etcd_begin
run_tests 'etcd auth: '
summary "etcd/auth against $("$ETCD" --version | head -n 1)"
