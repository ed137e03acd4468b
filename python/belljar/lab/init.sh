#!/bin/busybox sh
# The first process of the lab: modules, mounts, then the wanted command inside the disk's root.
/bin/busybox mkdir -p /proc /sys /dev /root /bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do
	insmod "/modules/$module.ko" || echo "lab: insmod $module failed"
done
for try in 1 2 3 4 5 6 7 8 9 10; do
	[ -b /dev/vda ] && break
	sleep 0.2
done
mkdir -p /disk /change
mount -t ext4 -o ro /dev/vda /disk || { echo "lab: no disk"; poweroff -f; }
mount -t tmpfs tmpfs /change
mkdir /change/upper /change/work
mount -t overlay -o lowerdir=/disk,upperdir=/change/upper,workdir=/change/work overlay /root
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /root/dev/shm
mount -t tmpfs tmpfs /root/lab
tar -xf /payload.tar -C /root/lab
ip link set lo up 2>/dev/null
hostname lab
mkdir -p /root/lab/results
if [ -c /dev/kvm ]; then echo "lab: ready"; else echo "lab: no /dev/kvm"; fi
stty -F /dev/ttyS0 cols "$(cat /columns)" rows "$(cat /rows)" 2>/dev/null
if [ -e /interactive ]; then
	setsid cttyhack chroot /root /bin/sh /lab/command
else
	chroot /root /bin/sh /lab/command </dev/null
fi
echo $? >/root/lab/results/status
tar -cf /dev/vdb -C /root/lab/results .
sync
poweroff -f
