//! Two namespaces joined by a link: the internet with its servers, and the host that netwatch runs
//! on.

use std::fs;
use std::net::IpAddr;

use crate::addresses::*;
use crate::advertise::Advertiser;
use crate::host::TestHost;
use crate::namespace::TestNamespace;
use crate::servers::Servers;
use crate::traffic_servers::TrafficServers;

/// IPv6 configuration of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostIpv6 {
    /// A static address and default route.
    #[default]
    Static,
    /// Address and default route from router advertisements, as in most home and office networks.
    Advertised,
    /// None.
    None,
}

/// The connection of the host to the test network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InternetShape {
    /// Whether the host has IPv4.
    pub ipv4: bool,
    /// IPv6 on the host.
    pub ipv6: HostIpv6,
    /// Whether there is a default route. The host always has its addresses on the link.
    pub uplink: bool,
    /// MTU of the link, bytes.
    pub mtu: u32,
}

impl Default for InternetShape {
    fn default() -> Self {
        Self { ipv4: true, ipv6: HostIpv6::default(), uplink: true, mtu: 1500 }
    }
}

/// The test network. It is removed when this is dropped or the process ends.
#[derive(Debug)]
pub struct TestInternet {
    /// The host that netwatch runs on. Fields are dropped in order, so it is removed first.
    pub host: TestHost,
    servers: Servers,
    traffic: TrafficServers,
    _advertiser: Option<Advertiser>,
    /// Everything beyond the host's uplink.
    pub inet: TestNamespace,
}

impl TestInternet {
    /// Creates the namespaces, connects them, starts the servers and waits until they respond.
    pub fn start(shape: InternetShape) -> Self {
        let inet = TestNamespace::new("inet");
        let host = TestHost::new();
        inet.sh(&inet_script(host.pid(), shape));
        let servers = Servers::start(&inet);
        host.sh(&host_script(shape));
        let resolver: IpAddr = if shape.ipv4 { DNS_V4.into() } else { DNS_V6.into() };
        fs::write(host.etc().join("resolv.conf"), format!("nameserver {resolver}\n")).expect("write resolv.conf");
        let traffic = TrafficServers::start(&inet);
        // The end that was raised first gets its carrier from a work queue, late on a busy machine.
        // Until then it drops packets.
        inet.wait_for("ip link show dev lan | grep -q 'state UP'");
        host.wait_for("ip link show dev uplink | grep -q 'state UP'");
        let advertiser = (shape.ipv6 == HostIpv6::Advertised).then(|| Advertiser::start(&inet, LAN_INDEX));
        if advertiser.is_some() {
            host.wait_for("ip -6 route show default | grep -q 'proto ra'");
        }
        Self { host, servers, traffic, _advertiser: advertiser, inet }
    }

    /// Number of bytes of each finished connection to [`SINK`], oldest first.
    pub fn sunk(&self) -> Vec<u64> {
        self.traffic.sunk()
    }

    /// The access log of the web server: one line per request, which begins with the address of the
    /// client.
    pub fn web_log(&self) -> String {
        self.servers.web_log()
    }

    /// The query log of the name server.
    pub fn dns_log(&self) -> String {
        self.servers.dns_log()
    }

    /// Starts an iperf3 server on [`IPERF`].
    pub fn start_iperf(&mut self) {
        self.servers.start_iperf(&self.inet);
    }
}

/// Index of the interface of the router. It differs from that of the uplink (2), because the kernel
/// takes a pair with equal indexes for an ordinary device and delays its carrier by up to a second
/// (`linkwatch_urgent_event`).
const LAN_INDEX: u32 = 10;

fn inet_script(host: u32, shape: InternetShape) -> String {
    let mtu = shape.mtu;
    format!(
        "ip link add lan index {LAN_INDEX} mtu {mtu} type veth peer name uplink mtu {mtu} netns {host}
        ip addr add {ROUTER_V4}/24 dev lan
        ip addr add {ROUTER_V6}/64 dev lan nodad
        for address in {APP_V4}/32 {DNS_V4}/32; do ip addr add $address dev lo; done
        for address in {APP_V6}/128 {DNS_V6}/128; do ip addr add $address dev lo nodad; done
        echo 0 > /proc/sys/net/ipv6/conf/lan/accept_dad
        echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
        ip link set lan up
        nft add table inet silence
        nft add chain inet silence input '{{ type filter hook input priority 0; }}'
        nft add rule inet silence input meta l4proto '{{ tcp, udp }}' th dport {SILENT} drop"
    )
}

fn host_script(shape: InternetShape) -> String {
    let accept_ra = u8::from(shape.ipv6 == HostIpv6::Advertised);
    let mut script = format!(
        "echo 0 > /proc/sys/net/ipv6/conf/uplink/accept_dad
        echo {accept_ra} > /proc/sys/net/ipv6/conf/uplink/accept_ra
        "
    );
    if shape.ipv4 {
        script += &format!("ip addr add {HOST_V4}/24 dev uplink\n");
    }
    if shape.ipv6 == HostIpv6::Static {
        script += &format!("ip addr add {HOST_V6}/64 dev uplink nodad\n");
    }
    script += "ip link set uplink up\n";
    if shape.uplink {
        if shape.ipv4 {
            script += &format!("ip route add default via {ROUTER_V4}\n");
        }
        if shape.ipv6 == HostIpv6::Static {
            script += &format!("ip -6 route add default via {ROUTER_V6}\n");
        }
    }
    script
}
