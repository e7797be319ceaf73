#!/bin/sh
# Makes of a node image one disk that boots by itself, by BIOS and by UEFI: what clouds take that start no kernel of ours.
#
#   disk.sh [--images DIR] NODE-IMAGE
#
#   node-<hash>/disk/ disk.raw   sparse, GPT:  1 bios  1 MiB  GRUB's core image, which boot.img in the first sector loads
#                                              2 boot  FAT    EFI/BOOT/BOOTX64.EFI, kernel, initrd; the EFI system partition
#                                              3 root  erofs  vm/root.erofs as it is
#                     id         what it was made of
# Behind the image's end the disk is the machine's: initrd-init.sh gives it to the data, whatever the table says. Needs no loop devices, and
# nothing but `kprov image build --vm` to have been run. The same parts give the same bytes. Built beside its place and moved there in
# one rename. Prints the folder.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
images=${KPROV_IMAGE_DIR:-/var/lib/kprov/images}
fail() { echo "disk image: $*" >&2; exit 1; }
while [ $# -gt 1 ]; do
	case $1 in
	--images) images=$2; shift 2 ;;
	*) fail "unknown argument $1" ;;
	esac
done
node=${1:?disk.sh: name a node image}
grub=${KPROV_GRUB_DIR:-/usr/lib/grub}
vm=$images/$node/vm
bios_start=2048 boot_start=4096 # sectors of 512 bytes; every partition begins at a whole MiB
bios_modules='biosdisk part_gpt fat search_fs_uuid linux serial terminal'
efi_modules='part_gpt fat search_fs_uuid linux serial terminal efi_gop efi_uga'
arguments='console=tty0 console=ttyS0,115200 quiet panic=-1'
export TZ=UTC LC_ALL=C SOURCE_DATE_EPOCH=946684800 MTOOLS_SKIP_CHECK=1 # FAT knows no times before 1980

[ -f "$vm/root.erofs" ] || fail "node image $node has no part for virtual machines in $images: kprov image build --vm"
[ -f "$vm/initrd" ] || fail "$vm/initrd leads nowhere: kprov image build --vm"
vmlinuz=$(dirname -- "$(readlink -f "$vm/vmlinux")")/vmlinuz
for tool in grub-mkimage mformat mcopy mmd sfdisk; do
	command -v $tool >/dev/null || fail "$tool is missing: make deps installs it (grub-common, mtools, fdisk)"
done
for part in i386-pc/boot.img i386-pc/kernel.img x86_64-efi/kernel.img; do
	[ -f "$grub/$part" ] || fail "$grub/$part is missing: make deps installs it (grub-pc-bin, grub-efi-amd64-bin)"
done
[ -f "$vmlinuz" ] || fail "there is no $vmlinuz: the kernel was unpacked by an older kprov; remove $vm and run kprov image build --disk"

digest() { sha256sum "$1" | cut -d' ' -f1; }
key() {
	{
		echo "disk recipe 1 $node $bios_modules, $efi_modules, $arguments"
		cat "$here/disk.sh"
		for part in i386-pc/boot.img i386-pc/kernel.img x86_64-efi/kernel.img; do digest "$grub/$part"; done
		for part in "$vmlinuz" "$vm/initrd"; do digest "$part"; done
		stat -L -c '%s' "$vm/root.erofs" # node names its content
	} | sha256sum | cut -c1-32
}
key=$(key)
# Identities made of the key: as UUIDs, and as FAT's serial number.
uuid() { echo "$key" | sed "s/^\(........\)\(....\).\(...\).\(...\)\(..........\).*/\1-\2-4\3-8\4-\5$1/"; }
serial=$(echo "$key" | cut -c25-32 | tr a-f A-F)
fat_uuid=$(echo "$serial" | sed 's/^\(....\)/\1-/')

tmp=''
trap '[ -z "$tmp" ] || rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP
exec 9>"$images/.lock" # as build.sh, which removes temporary folders
flock 9
if [ "$(cat "$images/$node/disk/id" 2>/dev/null)" = "$key" ]; then
	echo "$images/$node/disk"
	exit 0
fi
echo "disk image: $node" >&2
rm -rf "$images/$node"/disk.*.tmp
tmp=$images/$node/disk.$$.tmp
mkdir "$tmp"
disk=$tmp/disk.raw

sectors() { echo $((($(stat -L -c %s "$1") + 511) / 512)); }
whole() { echo $((($1 + 2047) / 2048 * 2048)); } # MiB, in sectors
place() { dd if="$1" of="$disk" bs=1M seek=$(($2 / 2048)) conv=notrunc,sparse status=none; } # file, sector: of a disk full of zeroes
le() { # value bytes: little-endian
	value=$1 n=$2
	while [ "$n" -gt 0 ]; do
		printf "\\$(printf %03o $((value & 255)))"
		value=$((value >> 8)) n=$((n - 1))
	done
}
patch() { dd of="$disk" bs=1 seek="$1" conv=notrunc status=none; } # byte: stdin goes there

# ---- GRUB: its configuration lies in the images themselves, and names the partition by its serial number
cat >"$tmp/grub.cfg" <<-CONFIG
	serial --unit=0 --speed=115200
	terminal_output console serial
	search.fs_uuid $fat_uuid root
	linux /vmlinuz $arguments
	initrd /initrd
	boot
CONFIG
# shellcheck disable=SC2086 # lists of words
{
	grub-mkimage -d "$grub/i386-pc" -O i386-pc -p '(hd0,gpt2)/' -c "$tmp/grub.cfg" -o "$tmp/core.img" $bios_modules
	grub-mkimage -d "$grub/x86_64-efi" -O x86_64-efi -p '(hd0,gpt2)/' -c "$tmp/grub.cfg" -o "$tmp/bootx64.efi" $efi_modules
}
core_sectors=$(sectors "$tmp/core.img")
[ "$core_sectors" -le $((boot_start - bios_start)) ] || fail "GRUB's core image takes $core_sectors sectors"

# ---- the boot partition: room for what is in it, and a third for FAT's own
boot_bytes=$(($(stat -c %s "$vmlinuz") + $(stat -L -c %s "$vm/initrd") + $(stat -c %s "$tmp/bootx64.efi")))
boot_sectors=$(whole $((boot_bytes * 4 / 3 / 512)))
[ "$boot_sectors" -ge 69632 ] || boot_sectors=69632 # 34 MiB: smaller ones are no FAT32, which firmware expects
root_start=$((boot_start + boot_sectors))
root_sectors=$(whole "$(sectors "$vm/root.erofs")")
total=$((root_start + root_sectors + 2048)) # a MiB for the table's copy
truncate -s $((boot_sectors * 512)) "$tmp/boot.fat"
mformat -i "$tmp/boot.fat" -F -T "$boot_sectors" -h 64 -s 32 -c 1 -N "$serial" -v KPROVBOOT ::
mmd -i "$tmp/boot.fat" ::EFI ::EFI/BOOT
for pair in "$tmp/bootx64.efi:EFI/BOOT/BOOTX64.EFI" "$vmlinuz:vmlinuz" "$vm/initrd:initrd"; do
	mcopy -i "$tmp/boot.fat" "${pair%%:*}" "::${pair#*:}"
done

# ---- the disk
truncate -s $((total * 512)) "$disk"
sfdisk --quiet --no-reread --no-tell-kernel "$disk" <<-TABLE
	label: gpt
	label-id: $(uuid 00)
	first-lba: 34
	start=$bios_start, size=$((boot_start - bios_start)), type=21686148-6449-6E6F-744E-656564454649, uuid=$(uuid 01), name=bios
	start=$boot_start, size=$boot_sectors, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=$(uuid 02), name=boot
	start=$root_start, size=$root_sectors, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=$(uuid 03), name=kprov-root
TABLE
# boot.img goes before the table of the protective MBR. It loads one sector of the core image (its number at 0x5c), and that one the others:
# its last 12 bytes tell first sector, count and segment. The jump at 0x66 believes what the BIOS says of the drive: a hard disk's need not be true.
dd if="$grub/i386-pc/boot.img" of="$disk" bs=1 count=440 conv=notrunc status=none
le $bios_start 8 | patch $((0x5c))
printf '\220\220' | patch $((0x66))
place "$tmp/core.img" $bios_start
{ le $((bios_start + 1)) 8; le $((core_sectors - 1)) 2; le $((0x820)) 2; } | patch $((bios_start * 512 + 500))
place "$tmp/boot.fat" $boot_start
place "$vm/root.erofs" $root_start

rm "$tmp/grub.cfg" "$tmp/core.img" "$tmp/bootx64.efi" "$tmp/boot.fat"
echo "$key" >"$tmp/id"
sync -f "$disk" 2>/dev/null || true
rm -rf "$images/$node/disk"
mv -T "$tmp" "$images/$node/disk"
tmp=''
echo "$images/$node/disk"
