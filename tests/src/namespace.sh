# Runs in fresh network, mount and cgroup namespaces and makes them look like a machine of their own.
# $1: an empty directory to keep the real /etc in. $2: where cgroup v2 is mounted, or empty. Stays until its standard input ends.
set -eu
real_etc=$1
cgroup=$2

mount --make-rprivate /

# An /etc of its own in memory: its files are copies that a test may change, its directories are links to the real ones. (Copying them all
# takes a second on a busy disk.)
mount --bind /etc "$real_etc"
mount -t tmpfs -o mode=755 tmpfs /etc
find "$real_etc" -mindepth 1 -maxdepth 1 ! -type d ! -name resolv.conf -exec cp -a -t /etc {} +
find "$real_etc" -mindepth 1 -maxdepth 1 -type d ! -name netns ! -name sudoers.d -exec ln -s -t /etc {} +
mkdir /etc/sudoers.d

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
