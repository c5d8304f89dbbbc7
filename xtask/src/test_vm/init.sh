#!/bin/busybox sh
# The first process of a virtual machine that `cargo xtask test-vm` boots. Its results are lines
# that begin with `netwatch-vm:` on the serial console. At its end, also after a failure, the
# machine powers off.

export PATH=/sbin:/bin HOME=/root
/bin/busybox --install -s /bin
echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
echo 'root:x:0:' >/etc/group
echo 'nameserver 198.51.100.10' >/etc/resolv.conf

# iproute2's program: the shell of busybox prefers busybox's own, which has fewer features.
ip() { /sbin/ip "$@"; }

report() { echo "netwatch-vm: $*"; }

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
ip link set lo up
report booted "$(uname -r)"
report page "$(sed -n 's/^KernelPageSize: *\([0-9]*\) kB$/\1/p' /proc/self/smaps | head -n 1)"

# No module is loaded here: the kernel requests those that netwatch needs, as on any machine.
timeout "$TEST_SECONDS" netwatch-tests "$TEST_FILTER" --show-output
report tests $?

# Tests that turn CPUs on and off and suspend the machine: ignored elsewhere.
export NETWATCH_MAY_CHANGE_MACHINE=1
timeout "$MACHINE_SECONDS" netwatch-tests "$TEST_FILTER" --show-output --ignored --test-threads 1
report machine-tests $?

# A host with an uplink, and a web server behind it in another namespace.
ip netns add inet
ip link add up0 type veth peer name inet0 netns inet
ip address add 198.51.100.1/24 dev up0
ip address add 2001:db8::1/64 dev up0 nodad
ip -n inet address add 198.51.100.10/24 dev inet0
ip -n inet address add 2001:db8::10/64 dev inet0 nodad
ip link set up0 up
ip -n inet link set inet0 up
ip route add default via 198.51.100.10
ip -6 route add default via 2001:db8::10
head -c 1000000 /dev/zero >/tmp/blob
ip netns exec inet httpd -h /tmp

netwatch doctor
report doctor $?

state() {
    ls /sys/class/net
    find /run/netwatch -mindepth 1 -type d 2>/dev/null
    grep -s . /proc/sys/net/ipv[46]/conf/*/forwarding /proc/sys/net/ipv6/conf/*/accept_ra
}
state >/tmp/before
timeout "$RUN_SECONDS" netwatch run -j -o /tmp/report.json -- client
report run $?
report report "$(tr -d '\n' </tmp/report.json)"

# The kernel removes the link in the background.
for _ in 1 2 3 4 5; do
    state >/tmp/after
    cmp -s /tmp/before /tmp/after && break
    sleep 1
done
diff /tmp/before /tmp/after
report left-nothing $?

report modules $(cut -d ' ' -f 1 /proc/modules | sort)
report done
poweroff -f
