#!/bin/busybox sh
# First process of the machine, from the initramfs: brings up the disk and hands over to /init on it.
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t devtmpfs none /dev
# Some need others, and which ones differs between kernels: what fails in one pass loads in the next.
for pass in 1 2 3; do
	for module in /modules/*.ko; do
		insmod "$module" 2>/dev/null
	done
done
if mount -t ext4 /dev/vda /disk; then
	umount /proc
	mount --move /dev /disk/dev
	exec switch_root /disk /init
fi
echo "seccast-vm: FAIL mounting the disk"
poweroff -f
