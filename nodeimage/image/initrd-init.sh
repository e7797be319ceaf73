#!/bin/busybox sh
# The first program of a virtual machine: finds root and data disk, joins them to one tree, and hands over to kprov-init.
#   root   the first disk that begins with the node image, or has it as third partition (disk.sh); erofs, read-only
#   data   ext4 labelled kprov-data, made at the first boot, grown when the disk has grown: a disk of its own - the first that is empty, or nova's
#          ephemeral one - else what the root leaves of its disk, as a partition; in memory when there is neither. A larger disk is used whole.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

GROW_BYTES_MIN=16777216 # what a file system may leave of its disk because no group of blocks fits

fail() {
	echo "kprov: cannot boot: $*" >/dev/console
	sync
	poweroff -f
}
load() { # list: what is in the kernel already, or for a device of another kind, says so
	while read -r module; do
		insmod "/modules/$module" || echo "kprov: module $module does not load" >/dev/console
	done <"/modules/$1"
}
disks() { for disk in /dev/vd[a-h] /dev/sd[a-h] /dev/xvd[a-h] /dev/nvme[0-7]n1; do if [ -b "$disk" ]; then echo "$disk"; fi; done; }
partition() { case $1 in *[0-9]) echo "$1p$2" ;; *) echo "$1$2" ;; esac; }
find_root() {
	for disk in $(disks); do
		for root in "$disk" $(partition "$disk" 3); do
			if [ -b "$root" ] && mount -t erofs -o ro "$root" /lower 2>/dev/null; then return 0; fi
		done
	done
	return 1
}
load order
tries=0 root= disk=
until find_root; do
	tries=$((tries + 1))
	[ $tries != 10 ] || load order-clouds # none of the emulator's own disks
	[ $tries -lt 200 ] || fail "no disk of $(disks | tr '\n' ' ')begins with a node image"
	sleep 0.05
done

# A tool of the node's own tree.
tool() { chroot /lower /usr/bin/env PATH=/usr/sbin:/usr/bin "$@"; }
bytes() { dd if="$1" bs=1 skip="$2" count="$3" 2>/dev/null; }
hex() { bytes "$1" "$2" "$3" | od -An -v -tx1 | tr -d ' \n'; }
is_ext4() { [ "$(hex "$1" 1080 2)" = 53ef ]; }
label() { bytes "$1" 1144 16 | tr -d '\0'; }
is_empty() { [ -z "$(dd if="$1" bs=4096 count=256 2>/dev/null | tr -d '\0' | head -c 1)" ]; }
number() { od -An -t"u$1" | tr -d ' '; } # bytes of it
disk_bytes() { echo $(($(cat "/sys/class/block/${1##*/}/size") * 512)); }
ext4_bytes() { # blocks, in two halves, of a KiB shifted
	echo $((($(bytes "$1" 1028 4 | number 4) + ($(bytes "$1" 1360 4 | number 4) << 32)) << (10 + $(bytes "$1" 1048 4 | number 4))))
}

find_data() {
	for wanted in kprov-data ephemeral0; do
		for disk in $(disks) "$rest"; do
			if [ "$disk" != "$root" ] && [ -b "$disk" ] && is_ext4 "$disk" && [ "$(label "$disk")" = $wanted ]; then data=$disk; return; fi
		done
	done
	for disk in $(disks) "$rest"; do
		if [ "$disk" != "$root" ] && [ -b "$disk" ] && is_empty "$disk"; then data=$disk; return; fi
	done
}
le32() { for shift in 0 8 16 24; do printf "\\$(printf %03o $((($1 >> shift) & 255)))"; done; }
entry() { # start and length in sectors: of a DOS partition table
	printf '\000\000\002\000\203\377\377\377'
	le32 "$1"
	le32 "$2"
}
# erofs leaves the disk's first sector free. Its first partition is the root itself, from sector 0 on, the second what is behind: both are held
# by the kernel as partitions then, where root on the disk and data on a part of it would shut each other out.
split_root() {
	blocks=$(bytes "$root" 1060 4 | number 4) bits=$(bytes "$root" 1036 1 | number 1)
	sectors=$((blocks << (bits - 9))) size=$(cat "/sys/class/block/${root##*/}/size")
	start=$(((sectors + 2047) / 2048 * 2048))
	[ $((size - start)) -ge 1048576 ] || return 0 # half a GiB
	[ $size -le 4294967295 ] || size=4294967295
	{ entry 0 $sectors; entry $start $((size - start)); dd if=/dev/zero bs=32 count=1 2>/dev/null; printf '\125\252'; } >/table
	umount /lower
	if [ "$(hex "$root" 446 66)" != "$(hex /table 0 66)" ]; then
		dd if=/table of="$root" bs=1 seek=446 conv=notrunc 2>/dev/null || fail "cannot write the partition table of $root"
		blockdev --rereadpt "$root" || fail "the kernel does not read the partition table of $root"
	fi
	mount -t erofs -o ro "$(partition "$root" 1)" /lower || fail "the root's partition of $root does not mount"
}

# A disk of disk.sh: what is behind the image is a partition of the kernel's alone, made at each boot as large as the disk is now. The table stays as it
# was written, with its copy at the image's end: firmware that misses the copy writes it there again.
take_rest() { # disk
	start=$(bytes "$1" 544 8 | number 8) size=$(cat "/sys/class/block/${1##*/}/size") # the header tells where the copy is
	start=$(((start + 2048) / 2048 * 2048))
	[ $((size - start)) -ge 1048576 ] || return 0 # half a GiB
	mount --bind /dev /lower/dev
	tool addpart "$1" 4 $start $((size - start)) || fail "the kernel takes no partition of $1 behind the image"
	umount /lower/dev
}

data='' rest=$(partition "$root" 2) holder=$disk # of the root
if [ "$root" != "$holder" ]; then
	rest=$(partition "$holder" 4)
	take_rest "$holder"
fi
find_data
if [ -z "$data" ] && [ "$root" = /dev/vda ] && [ -b /dev/vdb ]; then
	fail '/dev/vdb holds something that is not the data of a node: not formatting it'
fi
if [ -z "$data" ] && [ "$root" != "$holder" ] && [ -b "$rest" ]; then
	fail "behind its image $holder holds something that is not the data of a node: not formatting it"
fi
if [ "$root" = "$holder" ] && { [ -z "$data" ] || [ "$data" = "$rest" ]; }; then
	split_root
	find_data
fi
if [ -n "$data" ]; then
	mount --bind /dev /lower/dev
	if is_ext4 "$data"; then
		grows='' # resize2fs wants a file system that was checked in full since it was last mounted
		[ $(($(disk_bytes "$data") - $(ext4_bytes "$data"))) -lt $GROW_BYTES_MIN ] || grows=-f
		tool e2fsck -p $grows "$data" >/dev/null
		[ $? -lt 4 ] || fail 'the data disk is damaged: e2fsck cannot repair it by itself'
		[ -z "$grows" ] || tool resize2fs "$data" >/dev/null 2>&1 || echo "kprov: the file system of $data does not grow with it" >/dev/console
		[ "$(label "$data")" = kprov-data ] || tool e2label "$data" kprov-data
	else
		tool mke2fs -q -t ext4 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -L kprov-data "$data" || fail 'the data disk cannot be formatted'
	fi
	umount /lower/dev
	mount -t ext4 -o noatime "$data" /data || fail 'the data disk does not mount'
else
	mount -t tmpfs -o mode=755 tmpfs /data
fi
# Another node image than at the last boot: what lay over the old one goes, the machine's own data stays, as lib/cloud/local/reimage.c has it.
image=$(cat /lower/usr/lib/kprov/image 2>/dev/null)
if [ "$image" != "$(cat /data/image 2>/dev/null)" ]; then
	[ ! -d /data/upper ] || [ -d /data/upper.old ] || mv /data/upper /data/upper.old
	mkdir -p /data/upper/etc
	for part in etc/machine-id home mnt opt root srv var; do
		[ ! -e "/data/upper.old/$part" ] || [ -e "/data/upper/$part" ] || mv "/data/upper.old/$part" "/data/upper/$part"
	done
	rm -rf /data/upper.old /data/work
	echo "$image" >/data/image
fi
mkdir -p /data/upper /data/work /data/containerd /data/etcd /data/kubelet
mount -t overlay -o lowerdir=/lower,upperdir=/data/upper,workdir=/data/work overlay /new || fail 'the tree does not mount'
# Beside the overlay: containerd stacks its own on it, and etcd wants a plain file system.
for part in containerd etcd kubelet; do
	mkdir -p "/new/var/lib/$part"
	mount --bind "/data/$part" "/new/var/lib/$part"
done
# Bare, for overlays do not stack high: the layers of containers lie on it.
mount --bind /lower/usr/lib/kprov/containerd /new/usr/lib/kprov/containerd
umount /proc /sys
mount --move /dev /new/dev
exec switch_root /new /sbin/init
