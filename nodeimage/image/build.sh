#!/bin/sh
# Makes the node image: Debian's containerd and tools, our programs, and their OCI images ready in containerd's store.
#
#   build.sh [--programs DIR] [--images DIR] [--mirror-list FILE] [--print-id]
#
# Two cached levels below the images folder (default /var/lib/kprov/images), each named by what went into it:
#   base-<hash>   the Debian tree; about 30-60 s, once
#   node-<hash>   rootfs (our programs, containerd's preloaded store) and a link `base`; a few seconds.
#                 Below usr/lib/kprov: `version` of the programs, `image` its own name. The programs' OCI images have two tags,
#                 the version and `node`: pods that belong to a node, whatever its version, name the second.
# A level is built beside its place and moved there in one rename, so an interrupted build leaves only *.tmp folders,
# which the next one removes. Prints the node image's id, the last line on stdout. Exit status 0, or 1 with a message.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
programs=$here/../../build/bin
images=${KPROV_IMAGE_DIR:-/var/lib/kprov/images}
sources=
print_id=
version=
pause_version=3.10
busybox_version=1.35
registry=registry.kprov.dev
# Programs that run straight on the node, and those that run as pods. What is not built yet is left out.
host_programs='kprov-init kubelet kprov-snapshots etcd' # etcd for its offline tools: restoring a snapshot
image_programs='etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kprov-network kprov-dns kprov-vip cloud-controller-manager'
packages='mount containerd runc containernetworking-plugins iproute2 nftables ca-certificates conntrack busybox-static dropbear-bin chrony tzdata'

fail() { echo "image build: $*" >&2; exit 1; }
say() { echo "$*" >&2; }
hash_text() { sha256sum | cut -c1-16; }

while [ $# -gt 0 ]; do
	case $1 in
	--programs) programs=$2; shift 2 ;;
	--images) images=$2; shift 2 ;;
	--mirror-list) sources=$2; shift 2 ;;
	--print-id) print_id=1; shift ;;
	*) fail "unknown argument $1: see the head of $0" ;;
	esac
done
[ "$(id -u)" = 0 ] || fail 'a root tree needs root: run with sudo'
programs=$(CDPATH='' cd -- "$programs" 2>/dev/null && pwd) || fail "no folder of programs: run make first"
[ -x "$programs/kprov-init" ] || fail "$programs has no kprov-init: run make first"
version=$("$programs/kprov-init" --version) || fail "$programs/kprov-init does not run"
version=${version#kprov-init }

# The machine's own Debian sources, so that a mirror set up there is used here.
find_sources() {
	[ -z "$sources" ] || { echo "$sources"; return; }
	for f in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
		if [ -s "$f" ]; then echo "$f"; return; fi
	done
	fail 'no Debian sources in /etc/apt: name a file with --mirror-list'
}
suite() { ( . /etc/os-release; echo "${VERSION_CODENAME:-bookworm}" ); }

# What would be installed: the recipe, and the versions that apt knows now.
base_key() {
	{
		echo "recipe 2 $packages $(suite) $(dpkg --print-architecture)"
		# shellcheck disable=SC2086 # a list of words
		LC_ALL=C apt-cache policy $packages 2>/dev/null | sed -n '/^[a-z]/p; /Candidate/p'
	} | hash_text
}
node_key() {
	{
		echo "recipe 5 base $1 $version $pause_version $busybox_version"
		cat "$here/build.sh" "$here/config.toml"
		for p in $host_programs $image_programs pause; do
			[ ! -x "$programs/$p" ] || sha256sum "$programs/$p"
		done | sed "s|$programs/||"
		for lib in $(libraries); do sha256sum "$lib"; done
	} | hash_text
}

built() { for p in $1; do if [ -x "$programs/$p" ]; then echo "$p"; fi; done; }
# Every shared library that our programs load, as ldd finds it on this machine.
libraries() {
	for p in $(built "$host_programs $image_programs"); do ldd "$programs/$p" || true; done |
		sed -n 's|.* => \(/[^ ]*\) .*|\1|p; s|^[[:space:]]*\(/[^ ]*ld-linux[^ ]*\) .*|\1|p' | sort -u
}
# Copies the libraries into a tree whose /lib is a plain folder (an image) or a link to /usr/lib (Debian's).
install_libraries() {
	for lib in $(libraries); do
		case $lib in
		*/ld-linux*) dest=$1$lib ;;
		*) dest=$1/usr/lib/kprov/lib/${lib##*/} ;;
		esac
		mkdir -p "${dest%/*}"
		cp -L "$lib" "$dest"
	done
}

publish() { # temporary final: whoever comes second finds it there, and that is as good
	sync -f "$1" 2>/dev/null || true
	mv -T "$1" "$2" 2>/dev/null || { [ -d "$2" ] || fail "cannot move $1 to $2"; rm -rf "$1"; }
}

build_base() {
	say "node image: Debian tree base-$1 (once, about a minute)"
	tmp=$images/base-$1.$$.tmp
	mkdir -p "$tmp"
	mmdebstrap --variant=essential --mode=root --quiet \
		--aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		--include="$(echo "$packages" | tr ' ' ',')" "$(suite)" "$tmp/rootfs" "$(find_sources)" >&2 ||
		fail 'mmdebstrap failed: is it installed, and is the Debian mirror reachable?'
	root=$tmp/rootfs
	rm -rf "$root"/var/cache/* "$root"/var/log/* "$root"/var/lib/apt/* "$root"/usr/share/locale "$root"/usr/share/zoneinfo/right "$root"/usr/share/zoneinfo/posix \
		"$root"/etc/machine-id "$root"/etc/hostname "$root"/etc/resolv.conf "$root"/dev/* "$root"/etc/cni/net.d/*
	mkdir -p "$root"/var/log "$root"/var/lib/etcd "$root"/var/lib/kubelet "$root"/var/lib/containerd "$root"/opt/cni \
		"$root"/etc/cni/net.d "$root"/etc/kubernetes/manifests
	rm -rf "$root/opt/cni/bin"
	ln -s /usr/lib/cni "$root/opt/cni/bin"
	rm -f "$root/sbin/init"
	ln -s /usr/lib/kprov/bin/kprov-init "$root/sbin/init"
	publish "$tmp" "$images/base-$1"
}

# ---- OCI images, made with tar and sha256sum: an archive of blobs, an index, and the layout file ------------------------
blob() { # file: moves it into the blob store, prints "digest size"
	digest=$(sha256sum "$1" | cut -d' ' -f1)
	size=$(stat -c %s "$1")
	mv "$1" "$layout/blobs/sha256/$digest"
	echo "$digest $size"
}
layer() { # tree: prints "digest size" of its layer; the same tree always gives the same layer
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$1" -cf "$work/layer.tar" .
	blob "$work/layer.tar"
}
layer_json() { printf '{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%s}' "$1" "$2"; }
image() { # name command-json layers ("digest size" pairs, one a line): adds an image to the index
	diff_ids='' descriptors='' comma=''
	while read -r digest size; do
		diff_ids=$diff_ids$comma'"sha256:'$digest'"'
		descriptors=$descriptors$comma$(layer_json "$digest" "$size")
		comma=,
	done <<-LAYERS
	$3
	LAYERS
	printf '{"created":"1970-01-01T00:00:00Z","architecture":"%s","os":"linux","config":{%s,"Env":["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":[%s]},"history":[]}' \
		"$arch" "$2" "$diff_ids" > "$work/config.json"
	config=$(blob "$work/config.json")
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[%s]}' \
		"${config% *}" "${config#* }" "$descriptors" > "$work/manifest.json"
	manifest=$(blob "$work/manifest.json")
	printf '%s{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"platform":{"architecture":"%s","os":"linux"},"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}' \
		"$index_comma" "${manifest% *}" "${manifest#* }" "$arch" "$1" "${1##*:}" >> "$work/index"
	index_comma=,
	echo "$1 sha256:${config% *}" >> "$work/names"
}

# The file system that every program's image starts from: libraries, trust anchors, time zones (of CronJobs), users, and nothing to run.
common_tree() {
	tree=$1
	mkdir -p "$tree/etc/ssl/certs" "$tree/tmp" "$tree/usr/bin" "$tree/usr/share" "$tree/var/lib" "$tree/var/run" "$tree/proc" "$tree/sys" "$tree/dev"
	chmod 1777 "$tree/tmp"
	echo 'root:x:0:0:root:/root:/sbin/nologin' > "$tree/etc/passwd"
	echo 'root:x:0:' > "$tree/etc/group"
	echo 'hosts: files dns' > "$tree/etc/nsswitch.conf"
	cp "$root_base/etc/ssl/certs/ca-certificates.crt" "$tree/etc/ssl/certs/"
	cp -a "$root_base/usr/share/zoneinfo" "$tree/usr/share/"
	install_libraries "$tree"
	copy_tool ip "$tree"
	copy_tool nft "$tree"
	link_libraries "$tree"
}
# Our libraries lie in a folder of their own so that they never shadow Debian's; ld.so is told of it.
link_libraries() {
	mkdir -p "$1/etc/ld.so.conf.d"
	[ -e "$1/etc/ld.so.conf" ] || echo 'include /etc/ld.so.conf.d/*.conf' > "$1/etc/ld.so.conf"
	echo /usr/lib/kprov/lib > "$1/etc/ld.so.conf.d/00-kprov.conf"
	/sbin/ldconfig -r "$1"
}
install_program() { # program tree folder: stripped of what only a debugger reads
	mkdir -p "$2$3"
	strip -o "$2$3/$1" "$programs/$1" 2>/dev/null || cp "$programs/$1" "$2$3/$1"
	chmod 0755 "$2$3/$1"
}

make_images() {
	index_comma='' arch=$(dpkg --print-architecture)
	layout=$work/layout
	mkdir -p "$layout/blobs/sha256" "$work/common"
	: > "$work/index"
	common_tree "$work/common"
	common=$(layer "$work/common")
	for p in $(built "$image_programs"); do
		install_program "$p" "$work/tree-$p" /usr/local/bin
		own=$(layer "$work/tree-$p")
		for tag in "$version" node; do
			image "$registry/$p:$tag" "\"Entrypoint\":[\"/usr/local/bin/$p\"]" "$common
$own"
		done
	done
	mkdir -p "$work/tree-pause"
	cp "$programs/pause" "$work/tree-pause/pause"
	image "$registry/pause:$pause_version" '"Entrypoint":["/pause"]' "$(layer "$work/tree-pause")"
	busybox_tree "$work/tree-busybox"
	image "$registry/busybox:$busybox_version" '"Cmd":["sh"]' "$(layer "$work/tree-busybox")"
	printf '{"schemaVersion":2,"manifests":[%s]}' "$(cat "$work/index")" > "$layout/index.json"
	echo '{"imageLayoutVersion":"1.0.0"}' > "$layout/oci-layout"
	tar --sort=name -C "$layout" -cf "$work/images.tar" .
}
# A Debian tool with the libraries it needs: the pods that shape the node's network call it.
copy_tool() { # tool tree
	file=$(chroot "$root_base" sh -c "command -v $1") || fail "the Debian tree has no $1"
	mkdir -p "$2/usr/sbin" "$2/usr/lib/kprov/lib"
	cp -L "$root_base$file" "$2/usr/sbin/$1"
	for lib in $(chroot "$root_base" ldd "$file" | sed -n 's|.* => \(/[^ ]*\) .*|\1|p'); do
		[ -e "$2/usr/lib/kprov/lib/${lib##*/}" ] || cp -L "$root_base$lib" "$2/usr/lib/kprov/lib/"
	done
}
busybox_tree() {
	mkdir -p "$1/bin" "$1/etc" "$1/tmp" "$1/root" "$1/usr/bin" "$1/var/www"
	chmod 1777 "$1/tmp"
	cp "$root_base/bin/busybox" "$1/bin/busybox"
	for applet in $("$1/bin/busybox" --list); do
		[ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
	done
	echo 'root:x:0:0:root:/root:/bin/sh' > "$1/etc/passwd"
	echo 'root:x:0:' > "$1/etc/group"
}

# As containerd's CRI plugin would at a node's first start, for a second or two of an emulated machine: each image labelled as its own, and known by its ID.
import_images() {
	images_ctl() { "$root_base/usr/bin/ctr" -a "$run/c.sock" -n k8s.io images "$@"; }
	images_ctl import --digests=false "$work/images.tar" || return
	while read -r name id; do
		images_ctl label "$name" io.cri-containerd.image=managed && images_ctl tag --force "$name" "$id" || return
	done < "$work/names"
}
# Imports the images into a containerd store that nodes copy at boot: importing at boot would cost each node a second.
preload() { # store
	run=$work/run
	mkdir -p "$run" "$1"
	printf 'version = 2\nroot = "%s"\nstate = "%s"\noom_score = 0\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "%s/c.sock"\n' \
		"$1" "$run" "$run" > "$work/preload.toml"
	containerd_bin=$root_base/usr/bin/containerd
	"$containerd_bin" --config "$work/preload.toml" > "$work/containerd.log" 2>&1 &
	pid=$!
	tries=0
	until "$root_base/usr/bin/ctr" -a "$run/c.sock" version > /dev/null 2>&1; do
		tries=$((tries + 1))
		if [ $tries -gt 100 ] || ! kill -0 $pid 2>/dev/null; then
			cat "$work/containerd.log" >&2
			fail 'containerd does not start to preload images'
		fi
		sleep 0.05
	done
	status=0
	import_images > "$work/import.log" 2>&1 || status=$?
	kill $pid
	wait $pid || true
	pid=
	[ $status = 0 ] || { cat "$work/import.log" >&2; fail 'importing the images into containerd failed'; }
	# Of no use to a node: a build-time identity, and folders that are made anew.
	rm -rf "$1/io.containerd.grpc.v1.introspection" "$1/tmpmounts" "$1"/io.containerd.content.v1.content/ingest
}

# One copy of each library for the node and its containers: one page cache, and where machines are emulated one translation.
share_libraries() { # root
	for lib in "$1"/usr/lib/kprov/lib/*; do
		for twin in "$1"/usr/lib/kprov/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs/usr/lib/kprov/lib/"${lib##*/}"; do
			if cmp -s "$lib" "$twin"; then ln -f "$lib" "$twin"; fi
		done
	done
}

pid='' tmp='' work=''
cleanup() {
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || true
	[ -z "$work" ] || rm -rf "$work"
	[ -z "$tmp" ] || rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

build_node() {
	say "node image: node-$2"
	tmp=$images/node-$2.$$.tmp
	work=$(mktemp -d "$images/work.XXXXXX.tmp")
	root=$tmp/rootfs
	mkdir -p "$root/usr/lib/kprov/bin" "$root/etc/containerd"
	ln -s "../base-$1" "$tmp/base"
	for p in $(built "$host_programs"); do
		install_program "$p" "$root" /usr/lib/kprov/bin
	done
	install_libraries "$root"
	rm -rf "$root/lib64" # Debian's own loader serves on the node
	mkdir -p "$root/etc/ld.so.conf.d"
	cp "$here/config.toml" "$root/etc/containerd/config.toml"
	echo "$version" > "$root/usr/lib/kprov/version"
	echo "node-$2" > "$root/usr/lib/kprov/image"
	make_images
	preload "$root/usr/lib/kprov/containerd"
	share_libraries "$root"
	# The node's loader cache covers Debian's libraries and ours.
	mkdir -p "$work/merged" "$work/upper" "$work/over"
	echo /usr/lib/kprov/lib > "$root/etc/ld.so.conf.d/zz-kprov.conf"
	mount -t overlay overlay -o "lowerdir=$root:$images/base-$1/rootfs,upperdir=$work/upper,workdir=$work/over" "$work/merged"
	/sbin/ldconfig -r "$work/merged" || { umount "$work/merged"; fail 'ldconfig failed'; }
	umount "$work/merged"
	cp "$work/upper/etc/ld.so.cache" "$root/etc/ld.so.cache"
	publish "$tmp" "$images/node-$2"
	tmp=''
}

mkdir -p "$images"
exec 9> "$images/.lock"
flock 9
rm -rf "$images"/*.tmp
base=$(base_key)
node=$(node_key "$base")
# An image that is there with the base that it names needs nothing more, wherever the base lies.
if [ -z "$print_id" ] && ! [ -d "$images/node-$node/base/rootfs" ]; then
	root_base=$images/base-$base/rootfs
	[ -d "$images/base-$base" ] || build_base "$base"
	tmp=''
	[ -d "$images/node-$node" ] || build_node "$base" "$node"
fi
echo "node-$node"
