# Runs in fresh network, mount and cgroup namespaces and makes them look like a machine of their own.
# $1: a copy of /etc to use. $2: where cgroup v2 is mounted, or empty. Stays until its standard input ends.
set -eu
etc=$1
cgroup=$2

mount --make-rprivate /
mount --bind "$etc" /etc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock /run/home /run/cgroup

# /sys/class/net shows the network namespace that sysfs was mounted in; the cgroup mounts below it have to be carried over.
if [ -d /sys/fs/cgroup ]; then
    mount --rbind /sys/fs/cgroup /run/cgroup
    mount -t sysfs sysfs /sys
    mount --rbind /run/cgroup /sys/fs/cgroup
    umount -R -l /run/cgroup
else
    mount -t sysfs sysfs /sys
fi
# In a cgroup namespace a new mount shows only our part of the tree. (On top of the old one it would be EBUSY: the same file system.)
if [ -n "$cgroup" ]; then
    umount -l "$cgroup"
    mount -t cgroup2 cgroup2 "$cgroup"
fi
rmdir /run/cgroup

ip link set lo up
echo ready
exec cat
