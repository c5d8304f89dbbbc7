# Runs one command in its own network namespace and captures its packets, by hand. IPv4 only and
# without DNS, so it does less than netwatch.
name=hand$$
old=$(cat /proc/sys/net/ipv4/ip_forward)
ip netns add "$name"
ip link add "h$$" type veth peer name eth0 netns "$name"
ip addr add 10.254.253.1/30 dev "h$$"
ip link set "h$$" up
ip -n "$name" addr add 10.254.253.2/30 dev eth0
ip -n "$name" link set lo up
ip -n "$name" link set eth0 up
ip -n "$name" route add default via 10.254.253.1
sysctl -qw net.ipv4.ip_forward=1
nft add table ip "$name"
nft add chain ip "$name" nat '{ type nat hook postrouting priority 100; }'
nft add rule ip "$name" nat ip saddr 10.254.253.0/30 masquerade
tcpdump -i "h$$" -w /dev/null -U 2>/dev/null &
dump=$!
# The capture begins when tcpdump has opened its packet socket.
until grep -q . /proc/net/packet && [ "$(wc -l < /proc/net/packet)" -gt 1 ]; do sleep 0.005; done
ip netns exec "$name" "$@"
kill "$dump"
wait "$dump" || true
nft delete table ip "$name"
sysctl -qw net.ipv4.ip_forward="$old"
ip link del "h$$"
ip netns del "$name"
