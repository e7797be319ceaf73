#!/bin/bash
# The node image as a disk that boots by itself (kprov image build --disk): the same parts give the same bytes; SeaBIOS and OVMF boot it up to
# kprov-init, which reads its user data from a config drive; the data are on the rest of the disk, which may grow, or on a second disk.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/checks.sh
KPROV=$PWD/${BUILD:-build}/bin/kprov
IMAGES=${KPROV_IMAGE_DIR:-/var/lib/kprov/images}
OVMF=${OVMF:-/usr/share/ovmf/OVMF.fd}
BOOT_S=${DISK_BOOT_S:-240} # emulated, on a busy machine; a quiet one needs a tenth
[ "$(id -u)" = 0 ] || { echo 'SKIP: a node image is made by root'; exit 77; }
command -v qemu-system-x86_64 >/dev/null || { echo 'SKIP: qemu-system-x86_64 is not installed'; exit 77; }
for need in "$OVMF:ovmf" /usr/bin/mcopy:mtools /usr/bin/grub-mkimage:grub-common; do
  [ -e "${need%%:*}" ] || { echo "no ${need%%:*}: make test-deps (${need#*:})" >&2; exit 1; }
done
DIR=$(mktemp -d /tmp/e2e-disk-XXXXXX)
RUNNING=''
cleanup() {
  for pid in $RUNNING; do kill "$pid" 2>/dev/null; done
  [ $FAILED = 0 ] || tail -n 15 "$DIR"/*.log
  rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 143' TERM INT

NODE=$("$KPROV" image build --disk 2>"$DIR/build.log" | tail -n 1)
DISK=$IMAGES/$NODE/disk/disk.raw
[ -s "$DISK" ]
result $? "kprov image build --disk makes the disk of $NODE" "$(cat "$DIR/build.log")"
[ $FAILED = 0 ] || exit 1

# ---- the same again, beside it: a folder of images that has the same parts
mkdir -p "$DIR/images/$NODE"
ln -s "$IMAGES"/kernel-* "$DIR/images/"
cp -d "$IMAGES/$NODE/vm" "$DIR/images/$NODE/vm" 2>/dev/null || cp -d -r --reflink=auto "$IMAGES/$NODE/vm" "$DIR/images/$NODE/vm"
nodeimage/image/disk.sh --images "$DIR/images" "$NODE" >"$DIR/again.out" 2>&1 && cmp "$DISK" "$DIR/images/$NODE/disk/disk.raw"
result $? 'the same parts give the same bytes' "$(tail -n 3 "$DIR/again.out")"
rm -rf "$DIR/images/$NODE/disk"
(nodeimage/image/disk.sh --images "$DIR/images" "$NODE" >/dev/null 2>&1 & echo $! >"$DIR/pid"; wait)  &
until [ -n "$(find "$DIR/images/$NODE" -name disk.raw 2>/dev/null)" ] || ! jobs -r %% >/dev/null 2>&1; do sleep 0.02; done
kill "$(cat "$DIR/pid")" 2>/dev/null
wait %% 2>/dev/null
is '' "$(find "$DIR/images/$NODE" -name 'disk*' 2>/dev/null)" 'a build that is cut short leaves nothing'
rm -rf "$DIR/images"

# ---- machines
truncate -s 4M "$DIR/config.img"
mformat -i "$DIR/config.img" -v config-2 -T 8192 -h 16 -s 32 ::
mmd -i "$DIR/config.img" ::openstack ::openstack/latest
echo '{"kind":"NotAMachine"}' >"$DIR/user_data"
mcopy -i "$DIR/config.img" "$DIR/user_data" ::openstack/latest/user_data
boot() { # name, qemu's arguments for disks...: until kprov-init has refused its user data and turned the machine off
  local name=$1
  shift
  : >"$DIR/$name.log"
  timeout "$BOOT_S" qemu-system-x86_64 -machine q35,accel=tcg -cpu max -m 768 -nodefaults -display none -no-reboot -serial "file:$DIR/$name.log" \
    -netdev user,id=net -device virtio-net-pci,netdev=net,romfile= \
    -drive "file=$DIR/config.img,format=raw,if=none,id=config,readonly=on" -device virtio-blk-pci,drive=config "$@" 2>"$DIR/$name.err" &
  RUNNING="$RUNNING $!"
  BOOTED=$!
}
read_it() { # name: what kprov-init says of user data that are no machine's config
  grep -q 'the node cannot start.*kind must be MachineConfig' "$DIR/$1.log"
}
le() { # file, byte, count: a number there
  od -An -tu"$3" -j "$2" -N "$3" "$1" | tr -d ' '
}
data_blocks() { # image, qemu's format, byte where it begins: blocks of the file system there, which is labelled as ours; nothing when there is none
  qemu-img dd -f "$2" -O raw bs=1M skip=$(($3 / 1048576)) count=$(($3 / 1048576 + 1)) if="$1" of="$DIR/head.raw" 2>/dev/null
  [ "$(od -An -tx2 -j 1080 -N 2 "$DIR/head.raw" | tr -d ' ')" = ef53 ] && [ "$(dd if="$DIR/head.raw" bs=1 skip=1144 count=16 2>/dev/null | tr -d '\0')" = kprov-data ] &&
    le "$DIR/head.raw" 1028 4
}
REST=$(stat -c %s "$DISK")
for name in one two; do qemu-img create -q -f qcow2 -b "$DISK" -F raw "$DIR/$name.qcow2" 3G; done
qemu-img create -q -f qcow2 "$DIR/second.qcow2" 2G

boot bios -drive "file=$DIR/one.qcow2,if=none,id=d,cache=unsafe" -device virtio-blk-pci,drive=d,bootindex=0
bios=$BOOTED
boot second -device virtio-scsi-pci -drive "file=$DIR/two.qcow2,if=none,id=d,cache=unsafe" -device scsi-hd,drive=d,bootindex=0 \
  -drive "file=$DIR/second.qcow2,if=none,id=e,cache=unsafe" -device scsi-hd,drive=e
second=$BOOTED
wait "$bios"
read_it bios
result $? 'SeaBIOS, a virtio disk: GRUB, the kernel and kprov-init come up and read the config drive' "$(tail -n 2 "$DIR/bios.log" "$DIR/bios.err")"
is $(((3 * 1073741824 - REST) / 4096)) "$(data_blocks "$DIR/one.qcow2" qcow2 "$REST")" 'what the image leaves of the disk was formatted for data'
wait "$second"
read_it second
result $? 'SeaBIOS, a SCSI disk: as well' "$(tail -n 2 "$DIR/second.log" "$DIR/second.err")"
is $((2 * 1073741824 / 4096)) "$(data_blocks "$DIR/second.qcow2" qcow2 0)" 'data are on the second disk when there is one'
is '' "$(data_blocks "$DIR/two.qcow2" qcow2 "$REST")" 'and not on the rest of the first'

qemu-img resize -q "$DIR/one.qcow2" 5G
boot uefi -bios "$OVMF" -drive "file=$DIR/one.qcow2,if=none,id=d,cache=unsafe" -device nvme,drive=d,serial=kprov,bootindex=0
wait "$BOOTED"
read_it uefi
result $? 'OVMF, an NVMe disk: GRUB, the kernel and kprov-init come up and read the config drive' "$(tail -n 2 "$DIR/uefi.log" "$DIR/uefi.err")"
is $(((5 * 1073741824 - REST) / 4096)) "$(data_blocks "$DIR/one.qcow2" qcow2 "$REST")" 'the data grew with the disk'

echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
