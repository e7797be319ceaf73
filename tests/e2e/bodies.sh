#!/bin/bash
# The bodies that tests give to a fake cloud's servers (tests/support/bodies): one starts with what the cloud knows of it, is off and on and gone as its server is,
# is reached through a balancer; and whatever happens to the test, nothing of it is left on this machine. No cluster is made.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
if [ -z "${BODIES_WORLD:-}" ]; then
  command -v python3 >/dev/null || { echo 'SKIP: no python3'; exit 77; }
  [ "$(id -u)" = 0 ] || { echo 'SKIP: namespaces need root'; exit 77; }
  IMAGE=${IMAGE:-$("$KPROV" image build 2>/dev/null | tail -n 1)}
  [ -n "$IMAGE" ] || exit 1
  export IMAGE INSIDE_PASSED
  INSIDE_PASSED=$(mktemp /tmp/e2e-bodies-passed-XXXXXX)
  # All that could be left; others make links and machines of their own meanwhile.
  look() { ip -o link | grep -o 'bodies0\|@b[0-9a-f]*:'; ip route show proto 98; find /sys/fs/cgroup -type d -name "kprov-bodies-$1"; grep bodies /proc/self/mounts; ps -e -o args= | grep '^python3 tests/support/bodies/bodies.py .*/tmp/e2e-bodies'; }
  tests/support/bodies/world "$0" whole &
  world=$!
  wait $world || { echo '0 passed, 1 failed'; exit 1; }
  is '' "$(look $world)" 'nothing is left of it'
  for signal in TERM KILL; do
    log=$(mktemp /tmp/e2e-bodies-log-XXXXXX)
    tests/support/bodies/world "$0" hang >"$log" 2>&1 &
    world=$!
    eventually 30 grep -q hanging "$log" || not_ok 'a world with a machine' "$(cat "$log")"
    [ -n "$(look $world)" ] || not_ok 'what would be left is seen'
    kill -$signal $world
    wait $world 2>/dev/null
    # After SIGKILL its cgroups, empty, are left for the next one.
    gone() { [ -z "$(look $world | grep -v "${1:-nothing}")" ]; }
    if [ $signal = KILL ]; then
      eventually 10 gone /sys/fs/cgroup
      result $? 'nor of one that was killed' "$(look $world)"
      tests/support/bodies/world true
      is '' "$(look $world)" 'whose empty cgroups the next one removes'
    else
      eventually 10 gone
      result $? 'nor of one that was told to end' "$(look $world)"
    fi
    rm -rf "$(sed -n 's/^scratch //p' "$log")" "$log"
  done
  echo "$((PASSED + $(cat "$INSIDE_PASSED"))) passed, $FAILED failed"
  rm -f "$INSIDE_PASSED"
  [ $FAILED = 0 ]
  exit
fi
. tests/support/hetzner.sh
. tests/support/bodies/bodies.sh
DIR=$(mktemp -d /tmp/e2e-bodies-XXXXXX)
echo "scratch $DIR"
export HETZNER_HOST=$BODIES_API
cleanup() {
  bodies_stop
  hetzner_stop
  rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 143' TERM
bodies_image "$IMAGE"
hetzner_start --ticks 0 --image "$IMAGE" --public 198.19 || exit 1
bodies_start hetzner "$hetzner_url" || exit 1
api() { curl -s -m 10 -H "Authorization: Bearer $HCLOUD_TOKEN" -H 'Content-Type: application/json' "${@:2}" "$HCLOUD_ENDPOINT/$1"; }
made() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]]["id"])' "$1"; }
printf '{"kind":"MachineConfig","hostname":"body","files":[{"path":"/srv/index.html","content":"from the body"}],"services":[{"name":"web","command":["/bin/busybox","httpd","-f","-p","8080","-h","/srv"]}]}' |
  gzip -c | base64 -w 0 >"$DIR/user-data"
network=$(api networks -d '{"name":"n","ip_range":"10.128.0.0/16","subnets":[{"type":"cloud","ip_range":"10.128.0.0/16","network_zone":"eu-central"}]}' | made network)
image=$(api "images?type=snapshot" | grep -oE '"id": [0-9]+' | head -n 1 | tr -dc 0-9)
server=$(api servers -d "{\"name\":\"body\",\"server_type\":\"cx22\",\"location\":\"fsn1\",\"image\":\"$image\",\"start_after_create\":false,\"user_data\":\"$(cat "$DIR/user-data")\"}" | made server)
api "servers/$server/actions/attach_to_network" -d "{\"network\":$network,\"ip\":\"10.128.0.10\"}" >/dev/null
serves() { [ "$(curl -s -m 1 "http://$1/")" = 'from the body' ]; }
on() { api "servers/$server/actions/$1" -X POST >/dev/null; }
on poweron
eventually 20 serves 10.128.0.10:8080
result $? 'a server that is on is a machine, with the user data that the cloud was given' "$(tail -n 5 "$DIR/bodies.log" "$DIR"/bodies/*/console.log)"
if [ "${1:-}" = hang ]; then
  echo hanging
  sleep 300 &
  wait
fi
inside() { nsenter -t "$(pgrep -f '^/usr/lib/kprov/bin/kprov-init')" -n -u "$@"; }
is body "$(inside hostname)" 'its name is the config'\''s'
is "$server" "$(inside curl -s -m 2 http://169.254.169.254/hetzner/v1/metadata/instance-id)" 'the metadata service tells it who it is'
is 404 "$(inside curl -s -m 2 -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/user-data)" 'in the manner of its cloud alone'
is '' "$(curl -s -m 2 http://169.254.169.254/hetzner/v1/userdata)" 'and nobody else'
balancer=$(api load_balancers -d '{"name":"b","load_balancer_type":"lb11","location":"fsn1"}' | made load_balancer)
api "load_balancers/$balancer/actions/attach_to_network" -d "{\"network\":$network}" >/dev/null
api "load_balancers/$balancer/actions/add_service" -d '{"protocol":"tcp","listen_port":80,"destination_port":8080}' >/dev/null
api "load_balancers/$balancer/actions/add_target" -d "{\"type\":\"server\",\"server\":{\"id\":$server},\"use_private_ip\":true}" >/dev/null
public=$(api "load_balancers/$balancer" | python3 -c 'import json, sys; print(json.load(sys.stdin)["load_balancer"]["public_net"]["ipv4"]["ip"])')
eventually 10 serves "$public"
result $? "a balancer's public address carries requests to it" "$public: $(tail -n 3 "$DIR/bodies.log")"
eventually 10 sh -c "[ \"\$(nsenter -t $(pgrep -f '^/usr/lib/kprov/bin/kprov-init') -n curl -s -m 1 http://$public/)\" = 'from the body' ]"
result $? 'from a machine too'
inside -m /bin/busybox touch /srv/kept
on poweroff
off() { [ "$(bodies_on)" = 0 ]; }
eventually 20 off
result $? 'a server that is off is a machine that is off'
on poweron
eventually 20 serves "$public"
result $? 'and on again'
inside -m /bin/busybox test -e /srv/kept
result $? 'with what it had written'
api "servers/$server" -X DELETE >/dev/null
eventually 10 sh -c "[ -z \"\$(ls '$DIR/bodies')\" ]"
is '' "$(bodies_left)" 'a server that is gone leaves nothing'
bodies_stop
result $? 'the keeper ends' "$(tail -n 3 "$DIR/bodies.log")"
is 1 "$(ip -o link | grep -vc 'ifb[0-9]')" 'and its network is as it was'
echo "$PASSED" >"$INSIDE_PASSED"
[ $FAILED = 0 ]
