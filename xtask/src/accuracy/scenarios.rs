//! The ways to use the network that are compared.

use std::net::IpAddr;

use netwatch_tests::TestInternet;
use netwatch_tests::addresses::*;

/// The programs of the tests that send.
pub struct ScenarioPrograms {
    /// Traffic of exactly known size.
    pub traffic: String,
    /// Less common system calls.
    pub senders: String,
}

/// One command, and what its traffic is compared with.
pub struct Scenario {
    pub name: &'static str,
    /// The system call, in words.
    pub how: &'static str,
    /// Flags of `netwatch run`.
    pub flags: &'static [&'static str],
    pub command: Vec<String>,
    pub reference: IndependentCount,
    /// Whether netwatch has to count it.
    pub is_seen: bool,
}

/// The independent count.
#[derive(Debug, Clone, Copy)]
pub enum IndependentCount {
    /// Frames to a server and from it, beyond the uplink. netwatch calls the protocol `name`.
    Uplink { server: IpAddr, protocol: u8, name: &'static str },
    /// The counters of the loopback, which the command prints.
    Loopback,
}

const AS_ROOT: &[&str] = &["-u", "root"];

/// Every scenario, in the order of the table.
pub fn all(net: &TestInternet, programs: &ScenarioPrograms) -> Vec<Scenario> {
    let ScenarioPrograms { traffic, senders } = programs;
    let (v4, v6) = (APP_V4.to_string(), format!("[{APP_V6}]"));
    let send = |program: &String, words: String| -> Vec<String> {
        std::iter::once(program.clone()).chain(words.split(' ').map(str::to_owned)).collect()
    };
    let python = |script: &str, words: &[&str]| -> Vec<String> {
        ["python3", "-c", script].iter().chain(words).map(|word| (*word).to_owned()).collect()
    };
    let shell = |script: String| vec!["sh".to_owned(), "-euc".to_owned(), script];
    let mut all = vec![
        tcp("TCP, received", "connect, read", APP_V4, send(traffic, format!("fetch {v4}:{SOURCE}"))),
        tcp("TCP, sent", "connect, write", APP_V4, send(traffic, format!("send {v4}:{SINK} 1000000"))),
        tcp("TCP over IPv6", "connect, read", APP_V6, send(traffic, format!("fetch {v6}:{SOURCE}"))),
        tcp("TCP, refused", "connect", APP_V4, send(traffic, format!("connect {v4}:{REFUSED} 1000"))),
        tcp("TCP, no answer", "connect", APP_V4, send(traffic, format!("connect {v4}:{SILENT} 300"))),
        udp("UDP", "send, recv", APP_V4, send(traffic, format!("udp {v4}:{ECHO} 100 500"))),
        udp("UDP over IPv6", "send, recv", APP_V6, send(traffic, format!("udp {v6}:{ECHO} 100 500"))),
        udp("UDP in fragments", "send, recv", APP_V4, send(traffic, format!("udp {v4}:{ECHO} 20 3000"))),
        udp("UDP, many at once", "sendmmsg", APP_V4, send(senders, format!("sendmmsg {v4}:{ECHO} 20 1000"))),
        udp("burst of 10,000 flows", "sendto", APP_V4, send(senders, format!("spray {v4}:20000 10000"))),
        tcp("burst of 1,000 connections", "connect, close", APP_V4, python(CONNECTIONS, &[&v4, &SINK.to_string()])),
        udp("fork storm", "500 processes", APP_V4, shell(fork_storm(&format!("{traffic} udp {v4}:{ECHO} 1 10")))),
        tcp("sendfile", "sendfile", APP_V4, send(senders, format!("sendfile {v4}:{SINK} 1000000"))),
        tcp("splice", "splice from a pipe", APP_V4, send(senders, format!("splice {v4}:{SINK} 1000000"))),
    ];
    for (how, mode) in
        [("inline", "io_uring"), ("worker threads", "io_uring-workers"), ("polling thread", "io_uring-polled")]
    {
        all.push(tcp("io_uring", how, APP_V4, send(senders, format!("{mode} {v4}:{SINK} 100000"))));
    }
    let ping = |family: &str, to: String| shell(format!("ping {family} -q -c 20 -i 0.01 -s 200 {to} > /dev/null"));
    all.extend([
        uplink("ICMP", "ping", APP_V4, (1, "icmp"), ping("-4", v4.clone())),
        uplink("ICMPv6", "ping", APP_V6, (58, "icmpv6"), ping("-6", APP_V6.to_string())),
        as_root(uplink("raw socket", "protocol 253", APP_V4, (253, "253"), python(RAW, &[&v4]))),
        as_root(udp("raw socket with an IP header", "IP_HDRINCL", APP_V4, python(HEADER, &[&v4]))),
        as_root(udp("packet socket", "AF_PACKET", APP_V4, python(FRAMES, &[&v4, "0"]))),
        as_root(udp("packet socket past the queue", "PACKET_QDISC_BYPASS", APP_V4, python(FRAMES, &[&v4, "1"]))),
        as_root(udp(
            "nested network namespace",
            "veth, NAT",
            APP_V4,
            shell(nested(&format!("{traffic} udp {v4}:{ECHO} 100 500"))),
        )),
        loopback("loopback, TCP", "1 MB", LOOPBACK_TCP),
        loopback("loopback, UDP", "100 datagrams", LOOPBACK_UDP),
        as_root(Scenario {
            command: [&["unshare".to_owned(), "--net".to_owned()][..], &between_counters(LOOPBACK_UDP)].concat(),
            is_seen: false,
            ..loopback("loopback of a nested namespace", "unshare", LOOPBACK_UDP)
        }),
        as_root(Scenario {
            is_seen: false,
            ..udp(
                "another namespace of the host",
                "setns",
                APP_V4,
                shell(format!("nsenter -t {} -n {traffic} udp {v4}:{ECHO} 10 100", net.host.pid())),
            )
        }),
    ]);
    all
}

fn uplink(
    name: &'static str,
    how: &'static str,
    server: impl Into<IpAddr>,
    (protocol, protocol_name): (u8, &'static str),
    command: Vec<String>,
) -> Scenario {
    let reference = IndependentCount::Uplink { server: server.into(), protocol, name: protocol_name };
    Scenario { name, how, flags: &[], command, reference, is_seen: true }
}

fn tcp(name: &'static str, how: &'static str, server: impl Into<IpAddr>, command: Vec<String>) -> Scenario {
    uplink(name, how, server, (6, "tcp"), command)
}

fn udp(name: &'static str, how: &'static str, server: impl Into<IpAddr>, command: Vec<String>) -> Scenario {
    uplink(name, how, server, (17, "udp"), command)
}

fn loopback(name: &'static str, how: &'static str, script: &str) -> Scenario {
    let command = between_counters(script);
    Scenario { name, how, flags: &[], command, reference: IndependentCount::Loopback, is_seen: true }
}

/// A Python script, with the counters of the loopback printed before and after it.
fn between_counters(script: &str) -> Vec<String> {
    let shell = "[ \"$(id -u)\" != 0 ] || ip link set lo up
        grep lo: /proc/net/dev; python3 -c \"$1\"; grep lo: /proc/net/dev";
    ["sh", "-euc", shell, "sh", script].map(str::to_owned).to_vec()
}

fn as_root(scenario: Scenario) -> Scenario {
    Scenario { flags: AS_ROOT, ..scenario }
}

fn fork_storm(command: &str) -> String {
    format!("i=0; while [ $i -lt 500 ]; do {command} & i=$((i+1)); done; wait")
}

/// A namespace in the namespace of the run, whose traffic leaves through it.
fn nested(command: &str) -> String {
    format!(
        "unshare --net sleep infinity & inner=$!
        while [ \"$(readlink /proc/$inner/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ]; do sleep 0.01; done
        ip link add outer type veth peer name inner netns $inner
        ip address add 10.200.0.1/24 dev outer
        ip link set outer up
        nsenter -t $inner -n ip address add 10.200.0.2/24 dev inner
        nsenter -t $inner -n ip link set inner up
        nsenter -t $inner -n ip route add default via 10.200.0.1
        echo 1 > /proc/sys/net/ipv4/ip_forward
        nft add table ip nested
        nft add chain ip nested out '{{ type nat hook postrouting priority 100; }}'
        nft add rule ip nested out masquerade
        nsenter -t $inner -n {command}
        kill $inner"
    )
}

const LOOPBACK_TCP: &str = "
import socket
server = socket.create_server(('127.0.0.1', 7777))
client = socket.create_connection(server.getsockname())
peer, _ = server.accept()
for _ in range(100):
    client.sendall(b'l' * 10000)
    left = 10000
    while left: left -= len(peer.recv(left))
client.close()
peer.recv(1)
peer.close()
";

const LOOPBACK_UDP: &str = "
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('127.0.0.1', 7777))
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(100):
    client.sendto(b'l' * 500, server.getsockname())
    server.recv(1000)
";

const CONNECTIONS: &str = "
import socket, sys
for _ in range(1000):
    one = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    one.shutdown(socket.SHUT_WR)
    one.recv(1)
    one.close()
";

const RAW: &str = "
import socket, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
for _ in range(100): raw.sendto(b'r' * 100, (sys.argv[1], 0))
";

const HEADER: &str = "
import socket, struct, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
# The kernel fills in the source, the length and the checksum.
header = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 0, 0, 0, 64, 17, 0, bytes(4), socket.inet_aton(sys.argv[1]))
datagram = struct.pack('!HHHH', 4000, 20001, 108, 0) + b'h' * 100
for _ in range(100): raw.sendto(header + datagram, (sys.argv[1], 0))
";

const FRAMES: &str = "
import socket, struct, subprocess, sys, time
to, bypass = sys.argv[1], int(sys.argv[2])
route = subprocess.check_output(['ip', 'route', 'get', to], text=True).split()
via, device, source = (route[route.index(word) + 1] for word in ('via', 'dev', 'src'))
# The first datagram finds out the address of the gateway.
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', (to, 20001))
while True:
    known = subprocess.check_output(['ip', 'neighbor', 'show', via], text=True).split()
    if 'lladdr' in known: break
    time.sleep(0.01)
gateway = bytes.fromhex(known[known.index('lladdr') + 1].replace(':', ''))
packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
packets.bind((device, 0))
packets.setsockopt(263, 20, bypass)
own = packets.getsockname()[4]
header = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 128, 0, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(to))
total = sum(struct.unpack('!10H', header))
total = (total & 0xffff) + (total >> 16)
total = ~((total & 0xffff) + (total >> 16)) & 0xffff
header = header[:10] + struct.pack('!H', total) + header[12:]
datagram = struct.pack('!HHHH', 4000, 20001, 108, 0) + b'p' * 100
for _ in range(100): packets.send(gateway + own + b'\\x08\\x00' + header + datagram)
";
