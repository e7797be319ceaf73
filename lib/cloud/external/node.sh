#!/bin/sh
# What kprov's driver "external" runs as root on a machine that exists already: it looks, installs a node in one folder, starts,
# stops and removes it. Sent over SSH for every call (`sh -s -- VERB ...`), and kept in the folder for the node's own start.
#
#   facts                       what the machine is and has, as key=value lines
#   status                      what is installed, as key=value lines; nothing when there is no node
#   claim UID NAME ROLE POOL    takes the machine; exit status 45, and who has it, when it is taken
#   has-bundle ID               exit status 0 when that tree is here
#   put-bundle ID FORMAT        a root tree as a tar from standard input; gzip, zstd or none
#   install IMAGE BASE ADDRESS  which trees the node is made of
#   reimage IMAGE BASE FILE     other trees and another bootstrap config, for a node that is off; its data stays
#   configure FILE              another bootstrap config, from its next start on
#   config-file                 the name that another bootstrap config is to get
#   start | stop | kill         power
#   owned UID                   a line for everything that the cluster has here
#   remove UID                  all of it, and what its network left
#   run, inside, inside-cgroup  steps of the start, on the machine itself
#
# The machine's own root tree stays as it is: the node has mounts, processes, host name and IPC of its own, and shares the network.
set -u
home=/var/lib/kprov-node
node=$home/node
meta=$node/meta
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

fail() { echo "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
get() { sed -n "s/^$1=//p" "$meta" 2>/dev/null; }
set_meta() { # key=value...: replaces those lines
	cp "$meta" "$meta.tmp" || exit 1
	for pair; do
		sed -i "/^${pair%%=*}=/d" "$meta.tmp"
		echo "$pair" >>"$meta.tmp"
	done
	mv "$meta.tmp" "$meta"
}

# ---- looking ------------------------------------------------------------------------------------------------------------
listening() { # TCP ports that somebody listens on
	cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { split($2, a, ":"); print a[2] }' | sort -u |
		while read -r port; do printf '%d ' "0x$port"; done
}
loadable() { # a kernel feature: there already, or as a module; a kernel that has no modules cannot be asked
	[ -e "$2" ] || grep -qw "$1" /proc/filesystems || modprobe -q "$1" 2>/dev/null || [ ! -d "/lib/modules/$(uname -r)" ]
}
nameservers() {
	file=/etc/resolv.conf
	if grep -qs '^nameserver 127' $file && [ -s /run/systemd/resolve/resolv.conf ]; then file=/run/systemd/resolve/resolv.conf; fi
	sed -n 's/^nameserver[[:space:]]*\([0-9.]*\)$/\1/p' $file 2>/dev/null | grep -v '^127\.' | head -n 3 | tr '\n' ' '
}
facts() {
	echo "root=$(id -u)"
	echo "arch=$(uname -m)"
	echo "kernel=$(uname -r)"
	echo "now=$(date +%s)"
	echo "diskMB=$(df -Pm /var/lib | awk 'NR == 2 { print $4 }')"
	echo "filesystem=$(stat -f -c %T /var/lib/kprov-node 2>/dev/null || stat -f -c %T /var/lib)"
	echo "memoryMB=$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' /proc/meminfo)"
	echo "ports=$(listening)"
	echo "nameservers=$(nameservers)"
	missing=''
	for tool in unshare nsenter mount umount pivot_root chroot tar awk sed find setsid; do has $tool || missing="$missing$tool "; done
	echo "missingTools=$missing"
	missing=''
	loadable overlay /sys/module/overlay || missing="${missing}overlay "
	loadable nf_tables /sys/module/nf_tables || missing="${missing}nf_tables "
	loadable veth /sys/module/veth || missing="${missing}veth "
	modprobe -q br_netfilter 2>/dev/null
	[ -e /proc/sys/net/bridge ] || missing="${missing}br_netfilter "
	grep -q cgroup /proc/self/mounts || missing="${missing}cgroup "
	for ns in cgroup ipc mnt net pid uts; do [ -e /proc/self/ns/$ns ] || missing="$missing$ns-namespace "; done
	echo "missingFeatures=$missing"
	has zstd && echo zstd=yes
	[ -d /run/systemd/system ] && echo systemd=yes
	left=''
	[ ! -e /etc/kubernetes/kubelet.conf ] || left="$left/etc/kubernetes/kubelet.conf "
	[ ! -e /var/lib/kubelet/config.yaml ] || left="$left/var/lib/kubelet/config.yaml "
	[ ! -e /var/lib/etcd/member ] || left="$left/var/lib/etcd/member "
	[ ! -e /sys/class/net/cni0 ] || left="${left}link:cni0 "
	echo "leftovers=$left"
}

# ---- processes ----------------------------------------------------------------------------------------------------------
# A process by its number and the time it started, which together are unique.
started() { stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1; set -- ${stat##*) }; [ "$1" != Z ] && echo "${20}"; }
alive() { # file of "pid start"
	[ -s "$1" ] && read -r pid start <"$1" && [ "$(started "$pid")" = "$start" ]
}
init_pid() { alive $node/init && echo "$pid"; }

# ---- taking -------------------------------------------------------------------------------------------------------------
claim() {
	mkdir -p $home || exit 1
	new=$home/claim.$$
	mkdir -m 700 $new || exit 1
	printf 'uid=%s\nname=%s\nrole=%s\npool=%s\ncreated=%s\n' "$1" "$2" "$3" "$4" "$(date +%s)" >$new/meta
	# What the node will change of the machine's own settings.
	for key in net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables; do
		file=/proc/sys/$(echo $key | tr . /)
		[ ! -e "$file" ] || echo "sysctl.$key=$(cat "$file")" >>$new/meta
	done
	# A folder gets the name at once and whole, and only one does.
	if mv -T $new $node 2>/dev/null; then return; fi
	rm -rf $new
	if [ "$(get uid)" = "$1" ] && [ "$(get name)" = "$2" ]; then return; fi
	echo "taken by node $(get name) of the cluster with the uid $(get uid)"
	exit 45
}
status() {
	[ -s $meta ] || return 0
	cat $meta
	if pid=$(init_pid); then echo "pid=$pid"; fi
}
has_bundle() { [ -d "$home/bundles/$1" ]; }
put_bundle() {
	tmp=$home/bundles/$1.tmp
	if has_bundle "$1"; then cat >/dev/null; return; fi
	rm -rf "$tmp"
	mkdir -p "$tmp" || exit 1
	case $2 in zstd) filter=zstd ;; gzip) filter=gzip ;; *) filter=cat ;; esac
	flag=-d
	[ $filter != cat ] || flag=-
	$filter $flag | tar -C "$tmp" --numeric-owner -xpf - || { rm -rf "$tmp"; fail "unpacking $1 failed: is the disk full?"; }
	[ -e "$tmp/.kprov-bundle-end" ] || { rm -rf "$tmp"; fail "$1 came only in part"; }
	rm -f "$tmp/.kprov-bundle-end"
	mv "$tmp" "$home/bundles/$1"
}
install_node() { set_meta "image=$1" "base=$2" "address=$3"; }

# ---- changing -----------------------------------------------------------------------------------------------------------
config() { file=$(get config); echo "${file:-user-data}"; }
# The other one of two: with the line that names it, trees and config change at once.
config_file() { case $(config) in user-data) echo user-data.2 ;; *) echo user-data ;; esac; }
# What a node keeps of what lies over its trees. The rest comes from the trees and the config again.
kept='etc/machine-id home mnt opt root srv var'
settle() { # to the end of a change that was cut short: afterwards there is one upper folder
	[ -d $node/upper.old ] || return 0
	mkdir -p $node/upper/etc || exit 1
	for part in $kept; do
		if [ ! -e $node/upper/$part ] && [ -e $node/upper.old/$part ]; then mv $node/upper.old/$part $node/upper/$part || exit 1; fi
	done
	rm -rf $node/work $node/upper.old || exit 1
}
reimage() {
	[ -s $meta ] && [ -n "$(get image)" ] || fail 'no node is installed here'
	if init_pid >/dev/null; then fail 'the node runs: it is turned off first'; fi
	for tree in "$1" "$2"; do has_bundle "$tree" || fail "$tree is not here"; done
	[ -s "$node/$3" ] || fail "$node/$3 is not here"
	settle
	[ ! -d $node/upper ] || mv $node/upper $node/upper.old || exit 1
	settle
	before=$(get previous)
	[ "$(get image)" = "$1" ] || before="$(get image) $(get base)"
	set_meta "image=$1" "base=$2" "config=$3" "previous=$before"
	# The trees of now, and those it would go back to.
	for tree in "$home"/bundles/*; do
		case " $1 $2 $before " in *" ${tree##*/} "*) ;; *) rm -rf "$tree" ;; esac
	done
}
configure() {
	[ -s $meta ] && [ -s "$node/$1" ] || fail "$node/$1 is not here"
	set_meta "config=$1"
}

# ---- starting -----------------------------------------------------------------------------------------------------------
group() { echo "kprov-node-$(get uid)-$(get name)"; }
cgroup_roots() { # v1 hierarchies, or the one of v2 when it has the controllers
	if awk '$3 == "cgroup" { found = 1 } END { exit !found }' /proc/self/mounts; then
		awk '$3 == "cgroup" { print $2 }' /proc/self/mounts
	else
		awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts
	fi
}
enter_cgroups() { # this shell; by 0, for its own number is another one in the node
	for root in $(cgroup_roots); do
		dir=$root/$(group)
		if [ -e "$root/cgroup.subtree_control" ]; then
			for c in cpu memory pids io cpuset; do echo "+$c" 2>/dev/null >"$root/cgroup.subtree_control" || true; done
		fi
		mkdir -p "$dir" || exit 1
		for file in cpuset.cpus cpuset.mems; do
			if [ -e "$root/$file" ] && [ -e "$dir/$file" ] && ! [ -e "$root/cgroup.controllers" ]; then cat "$root/$file" >"$dir/$file"; fi
		done
		echo 0 >"$dir/cgroup.procs" || exit 1
	done
}
# Under systemd its unit does this, otherwise a process of our own: starts the node again when it ends by itself.
run() {
	trap '' HUP
	pause=1
	while [ -e $node/wanted ]; do
		unshare --mount --uts --ipc --pid --fork --kill-child=KILL sh $home/node.sh inside
		rm -f $node/init
		[ -e $node/wanted ] || break
		echo "the node has ended: it is started again in $pause s"
		sleep $pause
		[ $pause -ge 16 ] || pause=$((pause * 2))
	done
}
inside() { # PID 1 of the node, still with the machine's mounts: /proc tells its number out there
	read -r line </proc/self/stat
	pid=${line%% *}
	echo "$pid $(started "$pid")" >$node/init.tmp
	enter_cgroups
	mv $node/init.tmp $node/init
	exec unshare --cgroup sh $home/node.sh inside-cgroup
}
inside_cgroup() {
	set -e
	mount -n --make-rprivate /
	mount -n -t overlay kprov-node -o "lowerdir=$home/bundles/$(get image):$home/bundles/$(get base),upperdir=$node/upper,workdir=$node/work" $node/root
	cd $node/root
	for part in etcd:var/lib/etcd kubelet:var/lib/kubelet containerd:var/lib/containerd log:var/log; do
		mkdir -p "${part#*:}"
		mount -n --bind "$node/data/${part%%:*}" "${part#*:}"
	done
	mount -n -t tmpfs -o nosuid,nodev,mode=755 tmpfs run
	mkdir -m 700 run/kprov
	cp "$node/$(config)" run/kprov/bootstrap.json
	mount -n -t proc -o nosuid,nodev,noexec proc proc
	pivot_root . .
	umount -l .
	cd /
	exec /usr/bin/env -i container=kprov TERM=linux PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/kprov/bin/kprov-init
}
unit=/etc/systemd/system/kprov-node.service
start_by_systemd() {
	cat >$unit <<-UNIT
	[Unit]
	Description=kprov node $(get name)
	After=network-online.target
	Wants=network-online.target
	[Service]
	ExecStart=/bin/sh $home/node.sh run
	ExecStop=/bin/sh $home/node.sh end TERM
	KillMode=mixed
	TimeoutStopSec=30
	Restart=always
	Delegate=yes
	TasksMax=infinity
	LimitNOFILE=1048576
	OOMScoreAdjust=-900
	StandardOutput=append:$node/console.log
	StandardError=append:$node/console.log
	[Install]
	WantedBy=multi-user.target
	UNIT
	systemctl daemon-reload && systemctl enable --quiet kprov-node.service && systemctl start kprov-node.service
}
start() {
	[ -s $meta ] && [ -n "$(get image)" ] || fail 'no node is installed here'
	if init_pid >/dev/null; then return; fi
	settle
	mkdir -p $node/upper $node/work $node/root $node/data/etcd $node/data/kubelet $node/data/containerd $node/data/log
	chmod 700 $node/data/etcd
	: >$node/wanted
	if [ -d /run/systemd/system ]; then
		start_by_systemd || fail "systemd does not start the node: $(systemctl status kprov-node.service 2>&1 | tail -n 5)"
	elif ! alive $node/supervisor; then
		setsid sh $home/node.sh run </dev/null >>$node/console.log 2>&1 &
		echo "$! $(started $!)" >$node/supervisor
	fi
	tries=0
	until init_pid >/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || fail "the node does not start: $(tail -n 5 $node/console.log)"
		sleep 0.1
	done
}
end() { # signal: to the node's init, which stops its programs in order; 20 s, then it is killed
	if pid=$(init_pid); then
		kill "-$1" "$pid"
		tries=0
		while init_pid >/dev/null && [ $tries -lt 200 ]; do sleep 0.1; tries=$((tries + 1)); done
		if pid=$(init_pid); then kill -KILL "$pid"; fi
	fi
}
stop() { # signal
	rm -f $node/wanted
	if [ -e $unit ]; then systemctl disable --quiet kprov-node.service; fi
	end "$1"
	if [ -e $unit ]; then systemctl stop kprov-node.service; fi
	if alive $node/supervisor; then kill -TERM "$pid"; fi
	tries=0
	while init_pid >/dev/null || alive $node/supervisor; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || fail 'the node does not end'
		sleep 0.1
	done
	rm -f $node/init $node/supervisor
}

# ---- removing -----------------------------------------------------------------------------------------------------------
tables='kube-proxy kprov-network kprov-policy kprov-hostports'
in_base() { # a command of the node's own tools, on the machine's network
	base=$home/bundles/$(get base)
	if [ -x "$base/usr/bin/env" ]; then chroot "$base" "$@"; elif has "$1"; then "$@"; else return 1; fi
}
owned() {
	[ -s $meta ] && [ "$(get uid)" = "$1" ] || return 0
	echo "machine $(get name)"
	for root in $(cgroup_roots); do [ ! -d "$root/$(group)" ] || echo "cgroup $root/$(group)"; done
	[ ! -e /sys/class/net/cni0 ] || echo 'link cni0'
	for t in $tables; do if in_base nft list table ip $t >/dev/null 2>&1; then echo "nft table $t"; fi; done
	[ ! -e $unit ] || echo "unit $unit"
	echo "folder $home"
}
remove_network() {
	for t in $tables; do if in_base nft list table ip $t >/dev/null 2>&1; then in_base nft delete table ip $t || exit 1; fi; done
	if [ -e /sys/class/net/cni0 ]; then in_base ip link delete cni0 || exit 1; fi
	in_base ip route flush table main proto "${1:-0}" 2>/dev/null
	if [ -n "${2:-}" ]; then
		in_base ip -o -4 address show | awk -v a="$2/32" '$4 == a { print $2 }' | while read -r link; do in_base ip address delete "$2/32" dev "$link"; done
	fi
}
remove() { # uid [route-protocol [api-address]]
	[ -s $meta ] && [ "$(get uid)" = "$1" ] || return 0
	stop KILL
	# Of processes that were killed the last may be gone a little later.
	for root in $(cgroup_roots); do
		tries=0
		while [ -d "$root/$(group)" ]; do
			find "$root/$(group)" -depth -type d -delete 2>/dev/null
			tries=$((tries + 1))
			[ $tries -lt 100 ] || fail "the cgroup $root/$(group) cannot be removed"
			[ ! -d "$root/$(group)" ] || sleep 0.05
		done
	done
	if [ -n "$(get base)" ]; then remove_network "${2:-}" "${3:-}"; fi
	sed -n 's/^sysctl\.//p' $meta 2>/dev/null | while IFS='=' read -r key value; do
		file=/proc/sys/$(echo "$key" | tr . /)
		[ ! -e "$file" ] || echo "$value" >"$file"
	done
	if [ -e $unit ]; then rm -f $unit; systemctl daemon-reload; fi
	# What says whose it is goes last: until then the same call finds the rest.
	find $home -xdev -mindepth 1 ! -path $meta ! -path $node -delete && rm -f $meta && rmdir $node || exit 1
	rmdir $home 2>/dev/null || [ -z "$(ls -A $home)" ] # a disk mounted there stays, empty
}

[ "$(id -u)" = 0 ] || [ "$1" = facts ] || fail 'this needs root'
verb=$1
shift
case $verb in
facts | status | claim | run | inside | start | end | owned | remove | reimage | configure) $verb "$@" ;;
config-file) config_file ;;
has-bundle) has_bundle "$@" ;;
put-bundle) put_bundle "$@" ;;
install) install_node "$@" ;;
inside-cgroup) inside_cgroup ;;
stop) stop TERM ;;
kill) stop KILL ;;
*) fail "unknown verb $verb" ;;
esac
