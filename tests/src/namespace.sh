# Sets up new network, mount and cgroup namespaces as a separate machine. $1: an empty directory to
# mount the real /etc on. $2: the mount point of cgroup v2, or empty. Runs until its standard input
# ends.
set -eu
real_etc=$1
cgroup=$2

mount --make-rprivate /

# A separate /etc in memory: its files are copies that a test may change, its directories are links
# to the real ones. (To copy the directories takes a second on a busy disk.)
mount --bind /etc "$real_etc"
mount -t tmpfs -o mode=755 tmpfs /etc
find "$real_etc" -mindepth 1 -maxdepth 1 ! -type d ! -name resolv.conf -exec cp -a -t /etc {} +
find "$real_etc" -mindepth 1 -maxdepth 1 -type d ! -name netns ! -name sudoers.d -exec ln -s -t /etc {} +
mkdir /etc/sudoers.d

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock /run/home /run/cgroup

# /sys/class/net shows the network namespace in which sysfs was mounted. The cgroup mounts below
# /sys are moved to the new one.
if [ -d /sys/fs/cgroup ]; then
    mount --rbind /sys/fs/cgroup /run/cgroup
    mount -t sysfs sysfs /sys
    mount --rbind /run/cgroup /sys/fs/cgroup
    umount -R -l /run/cgroup
else
    mount -t sysfs sysfs /sys
fi
# In a cgroup namespace a new mount shows only its part of the tree. (A mount over the old one fails
# with EBUSY.)
if [ -n "$cgroup" ]; then
    umount -l "$cgroup"
    mount -t cgroup2 cgroup2 "$cgroup"
fi
rmdir /run/cgroup

ip link set lo up
echo ready
exec cat
