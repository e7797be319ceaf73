#!/bin/busybox sh
# The first program of a virtual machine: finds root and data disk, joins them to one tree, and hands over to kprov-init.
#   /dev/vda   the node image, erofs, read-only, shared by all machines
#   /dev/vdb   the machine's data disk, ext4: made at the first boot, grown when the disk has grown
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

fail() {
	echo "kprov: cannot boot: $*" >/dev/console
	sync
	poweroff -f
}
while read -r module; do
	insmod "/modules/$module" || echo "kprov: module $module does not load" >/dev/console
done </modules/order
tries=0
until [ -b /dev/vda ]; do
	tries=$((tries + 1))
	[ $tries -lt 200 ] || fail 'there is no /dev/vda'
	sleep 0.05
done
mount -t erofs -o ro /dev/vda /lower || fail 'the node image does not mount'

# A tool of the node's own tree.
tool() { chroot /lower /usr/bin/env PATH=/usr/sbin:/usr/bin "$@"; }
if [ -b /dev/vdb ]; then
	mount --bind /dev /lower/dev
	magic=$(dd if=/dev/vdb bs=2 skip=540 count=1 2>/dev/null | od -An -tx1 | tr -d ' \n') # ext4's, at byte 1080
	if [ "$magic" != 53ef ]; then
		[ -z "$(dd if=/dev/vdb bs=4096 count=256 2>/dev/null | tr -d '\0' | head -c 1)" ] || fail '/dev/vdb holds something that is no ext4: not formatting it'
		tool mke2fs -q -t ext4 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -L kprov-data /dev/vdb || fail 'the data disk cannot be formatted'
	else
		tool e2fsck -p /dev/vdb >/dev/null
		[ $? -lt 4 ] || fail 'the data disk is damaged: e2fsck cannot repair it by itself'
		tool resize2fs /dev/vdb >/dev/null 2>&1 # says so itself when there is nothing to grow
	fi
	umount /lower/dev
	mount -t ext4 -o noatime /dev/vdb /data || fail 'the data disk does not mount'
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
