# A namespace `plain` behind the host: the veth, route and NAT that netwatch creates, with neither
# classifier nor capture.
ip netns add plain
ip link add plain0 index 50 type veth peer name eth0 netns plain
ip addr add 10.254.252.1/30 dev plain0
ip link set plain0 up
ip -n plain addr add 10.254.252.2/30 dev eth0
ip -n plain link set lo up
ip -n plain link set eth0 up
ip -n plain route add default via 10.254.252.1
nft add table ip plain
nft add chain ip plain nat '{ type nat hook postrouting priority 100; }'
nft add rule ip plain nat ip saddr 10.254.252.0/30 masquerade
echo 1 > /proc/sys/net/ipv4/conf/plain0/forwarding
echo 1 > /proc/sys/net/ipv4/conf/uplink/forwarding
