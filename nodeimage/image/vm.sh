#!/bin/sh
# Makes of a node image what a virtual machine boots: kernel, initrd, and the root tree as one read-only file system.
#
#   vm.sh [--images DIR] NODE-IMAGE
#
#   kernel-<hash>/  vmlinux      uncompressed: under emulation, decompressing costs seconds
#                   vmlinuz      as boot loaders want it, for disk.sh
#                   initrd       our /init (initrd-init.sh), busybox, and the modules that mounting the root takes
#                   layer/       kernel modules, kmod and the ext4 tools, as a layer over the node's tree
#   node-<hash>/vm/ root.erofs   Debian tree, node and layer merged
#                   vmlinux, initrd: links into kernel-<hash>
# A level is built beside its place and renamed; what is there is not built again. Prints the folder of the last line.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
images=${KPROV_IMAGE_DIR:-/var/lib/kprov/images}
while [ $# -gt 1 ]; do
	case $1 in
	--images) images=$2; shift 2 ;;
	*) echo "vm.sh: unknown argument $1" >&2; exit 1 ;;
	esac
done
node=${1:?vm.sh: name a node image}
# What mounting the root takes, and what has no name to be asked for by; the rest loads itself.
boot_modules='virtio_pci virtio_blk crc32c_generic erofs overlay virtio_net virtio-rng qemu_fw_cfg button evdev'
# Tried when no disk of those appears: what clouds' disks take.
cloud_modules='virtio_scsi sd_mod ata_piix xen-blkfront nvme'
tools='kmod libkmod2 e2fsprogs libext2fs2 libcom-err2 libss2 logsave libblkid1 libuuid1 crun libyajl2'

fail() { echo "vm image: $*" >&2; exit 1; }
say() { echo "$*" >&2; }
[ "$(id -u)" = 0 ] || fail 'needs root: run with sudo'
[ -d "$images/$node/rootfs" ] || fail "there is no node image $node in $images: kprov image build"
base=$images/$node/base/rootfs
for tool in lz4 mkfs.erofs apt-get dpkg-deb; do command -v $tool >/dev/null || fail "$tool is missing: make deps installs it"; done

kernel_package() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1; }
kernel_key() {
	{
		echo "vm recipe 3 $boot_modules, $cloud_modules"
		cat "$here/vm.sh" "$here/initrd-init.sh" "$here/config.toml"
		# shellcheck disable=SC2086 # a list of words
		LC_ALL=C apt-cache policy "$1" $tools 2>/dev/null | sed -n '/^[a-z]/p; /Candidate/p'
	} | sha256sum | cut -c1-16
}

extract_vmlinux() { # vmlinuz vmlinux: the payload begins with the magic of lz4's legacy frames
	for offset in $(LC_ALL=C grep -obUaP '\x02\x21\x4c\x18' "$1" | cut -d: -f1); do
		tail -c "+$((offset + 1))" "$1" | lz4 -dc >"$2" 2>/dev/null || true # what follows the payload is no lz4
		if [ "$(head -c 4 "$2" | tail -c 3)" = ELF ]; then return; fi
	done
	fail "no lz4 payload in $1: the kernel is packed in another way"
}

# Debian's packages unpacked without their scripts; /lib and /sbin are links in the tree below, so everything goes under /usr.
unpack() { # folder packages...
	into=$1
	shift
	(cd "$work" && apt-get download -qq "$@" >/dev/null 2>"$work/apt.log") || { cat "$work/apt.log" >&2; fail "cannot download $*"; }
	for deb in "$work"/*.deb; do dpkg-deb -x "$deb" "$into"; rm "$deb"; done
	for part in lib lib64 sbin bin; do
		[ -d "$into/$part" ] || continue
		mkdir -p "$into/usr/$part"
		cp -a "$into/$part/." "$into/usr/$part/"
		rm -rf "${into:?}/$part"
	done
	rm -rf "$into/usr/share" "$into/etc" "$into/usr/include"
}
# Containers are started by crun instead of runc: under emulation each call of a Go program costs most of a second.
use_crun() { # folder
	mkdir -p "$1/etc/containerd"
	sed '/runtimes.runc\]$/,/runtime_type/ { /runtime_type/ a\
\
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\
        BinaryName = "/usr/bin/crun"
	}' "$here/config.toml" >"$1/etc/containerd/config.toml"
	grep -q crun "$1/etc/containerd/config.toml" || fail 'config.toml has no place for crun'
}

# kmod acts by the name it is called by; it runs from the layer, for this machine may have none.
kmod_tool() { # tool arguments...
	ln -sf "$layer/usr/bin/kmod" "$work/$1"
	tool=$work/$1
	shift
	LD_LIBRARY_PATH=$layer/usr/lib/x86_64-linux-gnu "$tool" "$@"
}
# kmod names what each needs first, in order: "insmod PATH"; what is built into the kernel it calls so.
list_modules() { # layer version list modules...: copies them beside the list
	from=$1 release=$2 list=$3
	shift 3
	for module in "$@"; do
		kmod_tool modprobe -d "$from" -S "$release" --show-depends "$module" 2>/dev/null || fail "the kernel has no module $module"
	done | sed -n 's|^insmod \([^ ]*\).*|\1|p' | awk '!seen[$0]++' >"$work/order"
	: >"$list"
	while read -r file; do
		cp "$file" "${list%/*}/"
		echo "${file##*/}" >>"$list"
	done <"$work/order"
}
build_initrd() { # layer version file
	tree=$work/initrd
	mkdir -p "$tree/bin" "$tree/modules" "$tree/proc" "$tree/sys" "$tree/dev" "$tree/lower" "$tree/data" "$tree/new"
	cp "$base/bin/busybox" "$tree/bin/busybox"
	cp "$here/initrd-init.sh" "$tree/init"
	chmod 0755 "$tree/init"
	# shellcheck disable=SC2086 # lists of words
	{
		list_modules "$1" "$2" "$tree/modules/order" $boot_modules
		list_modules "$1" "$2" "$tree/modules/order-clouds" $cloud_modules
	}
	(cd "$tree" && find . | LC_ALL=C sort | "$base/bin/busybox" cpio -o -H newc 2>/dev/null) >"$3"
}

build_kernel() { # key package
	say "vm image: kernel $2"
	tmp=$images/kernel-$1.$$.tmp
	work=$(mktemp -d "$images/work.XXXXXX.tmp")
	mkdir -p "$tmp/layer"
	# shellcheck disable=SC2086 # a list of words
	unpack "$tmp/layer" $2 $tools
	use_crun "$tmp/layer"
	[ -d "$tmp/layer/boot" ] || fail "$2 has no /boot"
	version=${2#linux-image-}
	extract_vmlinux "$tmp/layer/boot/vmlinuz-$version" "$tmp/vmlinux"
	mv "$tmp/layer/boot/vmlinuz-$version" "$tmp/vmlinuz"
	rm -rf "$tmp/layer/boot" "$tmp/layer/usr/lib/modules/$version/kernel/drivers/gpu" "$tmp/layer/usr/lib/modules/$version/kernel/sound"
	mkdir -p "$tmp/layer/usr/lib/x86_64-linux-gnu"
	ln -s usr/lib "$tmp/layer/lib" # where depmod looks
	layer=$tmp/layer
	kmod_tool depmod -b "$layer" "$version"
	build_initrd "$layer" "$version" "$tmp/initrd"
	rm "$layer/lib"
	mv -T "$tmp" "$images/kernel-$1" 2>/dev/null || { [ -d "$images/kernel-$1" ] || fail "cannot move $tmp"; }
	rm -rf "$work" "$tmp"
	work='' tmp=''
}

build_root() { # kernel folder
	say "vm image: root of $node"
	tmp=$images/$node/vm.$$.tmp
	work=$(mktemp -d "$images/work.XXXXXX.tmp")
	mkdir -p "$tmp" "$work/merged"
	mount -t overlay overlay -o "ro,lowerdir=$1/layer:$images/$node/rootfs:$base" "$work/merged"
	mounted=$work/merged
	mkfs.erofs --quiet -T0 "$tmp/root.erofs" "$mounted" >/dev/null || fail 'mkfs.erofs failed'
	umount "$mounted"
	mounted=''
	ln -s "../../${1##*/}/vmlinux" "$tmp/vmlinux"
	ln -s "../../${1##*/}/initrd" "$tmp/initrd"
	rm -rf "$images/$node/vm"
	mv -T "$tmp" "$images/$node/vm"
	rm -rf "$work"
	work='' tmp=''
}

tmp='' work='' mounted=''
cleanup() {
	[ -z "$mounted" ] || umount "$mounted" || true
	[ -z "$work" ] || rm -rf "$work"
	[ -z "$tmp" ] || rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

exec 9>"$images/.lock" # as build.sh, which removes temporary folders
flock 9
package=$(kernel_package)
[ -n "$package" ] || fail 'apt knows no linux-image-cloud-amd64: apt-get update'
key=$(kernel_key "$package")
[ -d "$images/kernel-$key" ] || build_kernel "$key" "$package"
if [ "$(readlink "$images/$node/vm/vmlinux" 2>/dev/null)" != "../../kernel-$key/vmlinux" ]; then
	build_root "$images/kernel-$key"
fi
echo "$images/$node/vm"
