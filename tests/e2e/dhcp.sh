#!/bin/bash
# A lease that kprov-init keeps, in two network namespaces with dnsmasq: taken, renewed before its time, changes of gateway and name server
# followed, a silent server outlived, the lease asked for anew when the server refuses it.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
INIT=$PWD/${BUILD:-build}/bin/kprov-init
[ "$(id -u)" = 0 ] || { echo 'SKIP: needs root'; exit 77; }
for tool in dnsmasq busybox ip; do command -v $tool >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }; done
DIR=$(mktemp -d /tmp/e2e-dhcp-XXXXXX)
chmod 755 "$DIR"
SERVER=kpd$$s CLIENT=kpd$$c DNSMASQ='' FOLLOWER=''
end() { # PID: and waits for it
  [ -z "$1" ] || { kill "$1" 2>/dev/null; wait "$1" 2>/dev/null; }
}
cleanup() {
  end "$FOLLOWER"
  end "$DNSMASQ"
  ip netns delete $CLIENT 2>/dev/null
  ip netns delete $SERVER 2>/dev/null
  rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 143' TERM INT
ip netns add $SERVER && ip netns add $CLIENT && ip link add kpd0 netns $SERVER type veth peer name eth0 netns $CLIENT &&
  ip -n $SERVER addr add 10.123.9.1/24 dev kpd0 && ip -n $SERVER link set kpd0 up || exit 1
serve() { # GATEWAY NAMESERVER T1: leases of two minutes, the least that dnsmasq gives
  end "$DNSMASQ"
  ip netns exec $SERVER dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --interface=kpd0 --bind-interfaces --dhcp-range=10.123.9.50,10.123.9.60,2m \
    --dhcp-option=3,"$1" --dhcp-option=6,"$2" --dhcp-option=26,1450 --dhcp-option=42,10.123.9.4 --dhcp-option-force=58,"$3" --dhcp-option-force=59,60 \
    --dhcp-authoritative --dhcp-leasefile="$DIR/leases" --pid-file= --log-dhcp --log-facility="$DIR/dnsmasq.log" &
  DNSMASQ=$!
}
# Its own /run/kprov and /etc: this machine's are none of its business. FOLLOWER is the program itself: each of these becomes the next.
follow() {
  ip netns exec $CLIENT unshare -m sh -c 'mkdir -p /run/kprov && mount --bind "$1/run" /run/kprov && mount --bind "$1/etc" /etc && exec "$2" dhcp eth0 0' \
    sh "$DIR" "$INIT" >>"$DIR/log" 2>&1 &
  FOLLOWER=$!
}
address() { ip -n $CLIENT -4 -o addr show eth0 | awk '{ print $4 }'; }
gateway() { ip -n $CLIENT route show default | awk '{ print $3 }'; }
is_gateway() { [ "$(gateway)" = "$1" ]; }
requests() { grep -c 'DHCPREQUEST(kpd0)' "$DIR/dnsmasq.log"; }
asked_more_than() { [ "$(requests)" -gt "$1" ]; }
has_address() { [ -n "$(address)" ]; }

serve 10.123.9.1 10.123.9.2 3
mkdir "$DIR/run" "$DIR/etc"
follow
eventually 20 has_address
result $? "an address is taken: $(address)" "$(cat "$DIR/log" "$DIR/dnsmasq.log")"
[ "$(gateway)" = 10.123.9.1 ] && ip -n $CLIENT link show eth0 | grep -q 'mtu 1450'
result $? 'with gateway and MTU' "$(ip -n $CLIENT route; ip -n $CLIENT link)"
grep -q '^ntp=10.123.9.4$' "$DIR/run/dhcp.eth0"
result $? 'and the time server that it names' "$(cat "$DIR/run/dhcp.eth0")"
# What is set so far came by udhcpc, of whose answer only the lease counts: T1 is at 60 s, unless the machine's clock is set. So it starts
# anew with a lease that is 60 s old.
was=$(address)
end "$FOLLOWER"
sed -i "s/^at=.*/at=$(($(cut -d. -f1 /proc/uptime) - 61))/" "$DIR/run/dhcp.eth0"
follow
first=$(requests)
eventually 10 asked_more_than "$first"
result $? 'at half its time it is renewed' "$(cat "$DIR/log" "$DIR/dnsmasq.log")"
first=$(requests)
eventually 12 asked_more_than "$first"
result $? 'and then as often as the server says (option 58)' "$(tail -n 30 "$DIR/dnsmasq.log")"
[ "$(address)" = "$was" ]
result $? 'the address is the same' "$(address)"

echo 'nameserver 10.123.9.2' >"$DIR/etc/resolv.conf" # as init writes it at boot
serve 10.123.9.7 10.123.9.8 3
eventually 15 is_gateway 10.123.9.7
result $? 'another gateway is followed' "$(ip -n $CLIENT route; cat "$DIR/log")"
[ "$(ip -n $CLIENT route show default | wc -l)" = 1 ] && grep -q '^nameserver 10.123.9.8$' "$DIR/etc/resolv.conf" && ! grep -q 10.123.9.2 "$DIR/etc/resolv.conf"
result $? 'the one before is gone; another name server too' "$(ip -n $CLIENT route; cat "$DIR/etc/resolv.conf")"

end "$DNSMASQ"
DNSMASQ=''
sleep 5 # T1 passes, and nobody answers
[ "$(address)" = "$was" ] && is_gateway 10.123.9.7
result $? 'a silent server changes nothing' "$(address)"

# An address that is another's by now: the server refuses it.
end "$DNSMASQ"
ip netns exec $SERVER dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --interface=kpd0 --bind-interfaces --dhcp-range=10.123.9.80,10.123.9.90,2m \
  --dhcp-option=3,10.123.9.1 --dhcp-authoritative --dhcp-leasefile="$DIR/leases" --pid-file= --log-dhcp --log-facility="$DIR/dnsmasq.log" &
DNSMASQ=$!
moved() { case $(address) in 10.123.9.8[0-9]/24 | 10.123.9.90/24) ;; *) false ;; esac; }
end "$FOLLOWER" # it would ask when half of what is left until T2 has passed: a lease that is older asks at once
sed -i "s/^at=.*/at=$(($(cut -d. -f1 /proc/uptime) - 61))/" "$DIR/run/dhcp.eth0"
follow
eventually 20 moved
result $? "a lease that is refused is asked for anew: $(address)" "$(cat "$DIR/log"; tail -n 30 "$DIR/dnsmasq.log")"
[ "$(ip -n $CLIENT -4 -o addr show eth0 | wc -l)" = 1 ]
result $? 'and the address before is gone' "$(address)"
echo "$PASSED passed, $FAILED failed, 0 skipped"
[ $FAILED = 0 ]
