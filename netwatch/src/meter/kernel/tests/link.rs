//! Counts on a real link, and the balance with the interface's own counters.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::books::Books;
use super::namespace::{Link, with_link};
use super::{drained, is_linux, probe, probe_with};
use crate::flow::{Counters, Direction, Increment, ObservationPoint, Traffic};
use crate::meter::{AttachMethod, KernelMeterConfig, Notification, SampleReason};

const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Attaches, brings the link up, lets `traffic` happen, and settles.
fn measured(link: &Link, mut probe: Books, traffic: impl FnOnce(&Link)) -> (Vec<Increment>, Books) {
    probe.attach_link(link.host_ifindex).expect("attached to the link");
    probe.attach_loopback(link.target.as_fd()).expect("attached to lo");
    link.up();
    traffic(link);
    (probe.settle(link, 0), probe)
}

fn udp_flow(increments: &[Increment], port: u16) -> Increment {
    let is_it = |one: &&Increment| matches!(one.traffic, Traffic::Flow(key) if key.protocol == 17 && (key.remote.port == port || key.local.port == port));
    *increments.iter().find(is_it).expect("the flow")
}

/// `count` datagrams of `size` bytes there, half as many back, in step so that no queue overflows.
fn exchange(link: &Link, server: &str, client: &str, count: usize, size: usize) {
    let server = socket(server);
    let client: SocketAddr = client.parse().expect("an address");
    let address = server.local_addr().expect("an address");
    link.in_target(move || {
        let client = socket(client);
        let mut buffer = vec![0; 65536];
        for number in 0..count {
            assert_eq!(client.send_to(&vec![7; size], address).expect("sent"), size);
            let (length, from) = server.recv_from(&mut buffer).expect("received");
            assert_eq!(length, size);
            if number % 2 == 0 {
                server.send_to(&buffer[..size], from).expect("answered");
                client.recv_from(&mut buffer).expect("received");
            }
        }
    });
}

fn socket(address: impl ToSocketAddrs) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    socket
}

fn send(socket: &UdpSocket, size: usize, to: impl ToSocketAddrs) {
    assert_eq!(socket.send_to(&vec![1; size], to).expect("sent"), size);
}

fn known_counts(methods: &'static [AttachMethod; 1]) {
    with_link(|link| {
        let Some(probe) = probe_with(&KernelMeterConfig { methods, ..KernelMeterConfig::default() }) else { return };
        let (increments, mut probe) = measured(link, probe, |link| {
            exchange(link, "198.51.100.1:4000", "198.51.100.2:5000", 100, 700);
            exchange(link, "[2001:db8::1]:4000", "[2001:db8::2]:5001", 40, 900);
        });
        assert_eq!(probe.method(), Some(methods[0]));
        let v4 = udp_flow(&increments, 5000);
        let sized = |skbs, size: u64| Counters { skbs, packets: skbs, bytes: skbs * size, wire_bytes: skbs * size };
        assert_eq!((v4.counters.egress, v4.counters.ingress), (sized(100, 742), sized(50, 742)));
        assert_eq!((v4.opened_by, v4.point), (Direction::Egress, ObservationPoint::Link));
        let v6 = udp_flow(&increments, 5001);
        assert_eq!((v6.counters.egress, v6.counters.ingress), (sized(40, 962), sized(20, 962)));
        assert!(v4.first_seen_ns < v4.last_seen_ns && v4.last_seen_ns < v6.last_seen_ns);
        assert_eq!(drained(&mut probe), [], "nothing new");
        probe.detach().expect("detached");
    });
}

#[test]
fn udp_counts_are_exact_with_tcx() {
    if !is_linux(6, 6, "tcx") {
        return;
    }
    known_counts(&[AttachMethod::Tcx]);
}

#[test]
fn udp_counts_are_exact_with_clsact() {
    known_counts(&[AttachMethod::Clsact]);
}

#[test]
fn loopback_counts_once_and_names_the_opener_local() {
    with_link(|link| {
        let Some(probe) = probe() else { return };
        let (increments, _probe) = measured(link, probe, |link| {
            link.in_target(|| {
                let server = UdpSocket::bind("127.0.0.1:4000").expect("bound");
                let client = UdpSocket::bind("127.0.0.1:5000").expect("bound");
                (0..10).for_each(|_| send(&client, 100, "127.0.0.1:4000"));
                (0..5).for_each(|_| send(&server, 50, "127.0.0.1:5000"));
            });
        });
        let flow = udp_flow(&increments, 5000);
        let Traffic::Flow(key) = flow.traffic else { panic!("a flow") };
        assert_eq!((key.local.port, key.remote.port, flow.point), (5000, 4000, ObservationPoint::Loopback));
        assert_eq!((flow.counters.egress.packets, flow.counters.egress.bytes), (10, 1420));
        assert_eq!((flow.counters.ingress.packets, flow.counters.ingress.bytes), (5, 460));
        assert_eq!(flow.opened_by, Direction::Egress);
    });
}

#[test]
fn tcp_with_offload_balances_and_has_an_rtt() {
    with_link(|link| {
        let Some(probe) = probe() else { return };
        const MEGABYTES: usize = 8;
        let (increments, mut probe) = measured(link, probe, |link| {
            let server = std::net::TcpListener::bind((HOST, 4000)).expect("bound");
            link.in_target(move || {
                use std::io::{Read, Write};
                let mut client = std::net::TcpStream::connect((HOST, 4000)).expect("connected");
                let (mut peer, _) = server.accept().expect("accepted");
                let reader = std::thread::spawn(move || std::io::copy(&mut peer, &mut std::io::sink()));
                client.write_all(&vec![1; MEGABYTES << 20]).expect("written");
                client.shutdown(std::net::Shutdown::Write).expect("shut down");
                assert_eq!(client.read(&mut [0; 1]).expect("the end"), 0);
                assert_eq!(reader.join().expect("no panic").expect("copied"), (MEGABYTES << 20) as u64);
            });
        });
        let is_tcp = |one: &&Increment| matches!(one.traffic, Traffic::Flow(key) if key.protocol == 6);
        let flow = increments.iter().find(is_tcp).expect("a TCP flow");
        let tcp = flow.tcp.expect("TCP");
        assert!(tcp.handshake_rtt_ns.is_some_and(|rtt| rtt < 1_000_000_000));
        assert_eq!(flow.connections, 1);
        assert_eq!((tcp.flags.egress & 3, tcp.flags.ingress & 3), (3, 3), "SYN and FIN both ways");
        let Counters { skbs, packets, bytes, wire_bytes } = flow.counters.egress;
        assert!(packets > skbs && wire_bytes - bytes == (packets - skbs) * 66, "{:?}", flow.counters.egress);
        let mut samples = Vec::new();
        probe
            .poll(&mut |notice| {
                samples.extend(match notice {
                    Notification::Sample(sample) => Some(sample),
                    Notification::NewFlow(_) | Notification::SocketChanged(_) => None,
                })
            })
            .expect("room");
        let first =
            samples.iter().find(|sample| sample.direction == Direction::Egress && sample.reason == SampleReason::Head);
        assert!(
            first.is_some_and(|sample| sample.payload().len() > 1000 && sample.payload().iter().all(|&byte| byte == 1))
        );
        assert_eq!(probe.lost().expect("readable"), crate::flow::ObservationLosses::default());
    });
}

#[test]
fn a_full_table_forgets_nothing() {
    with_link(|link| {
        let config = KernelMeterConfig { max_flows: 16, ..KernelMeterConfig::default() };
        let Some(probe) = probe_with(&config) else { return };
        let (increments, probe) = measured(link, probe, |link| {
            let server = UdpSocket::bind((HOST, 4000)).expect("bound");
            link.in_target(|| {
                let sockets: Vec<_> = (0..64).map(|_| UdpSocket::bind("198.51.100.2:0").expect("bound")).collect();
                sockets.iter().for_each(|socket| send(socket, 10, (HOST, 4000)));
            });
            drop(server);
        });
        let overflow = increments.iter().find(|one| one.traffic == Traffic::Overflow(17)).expect("an overflow");
        let exact =
            increments.iter().filter(|one| matches!(one.traffic, Traffic::Flow(key) if key.protocol == 17)).count();
        assert_eq!(overflow.counters.egress.packets as usize + exact, 64);
        // Some choices of ports fill both buckets of one before the table is full.
        let lost = probe.lost().expect("readable");
        assert!(
            lost.table_full > 0 && lost.table_full + lost.insert_failed >= overflow.counters.egress.packets,
            "{lost:?}"
        );
    });
}

/// Two processors' worth of datagrams, and meanwhile a drain a millisecond, or as often as the machine lets us.
#[test]
fn drains_at_a_kilohertz_under_full_load_lose_nothing() {
    with_link(|link| {
        let Some(mut probe) = probe() else { return };
        probe.attach_link(link.host_ifindex).expect("attached to the link");
        link.up();
        let server = UdpSocket::bind((HOST, 4000)).expect("bound");
        let done = AtomicBool::new(false);
        let (sent, drains, grown) = std::thread::scope(|scope| {
            let done = &done;
            let floods = [5000, 5001].map(|port| scope.spawn(move || link.in_target(|| flood_until(done, port))));
            let (drains, grown) = drain_at_a_kilohertz(&mut probe);
            done.store(true, Ordering::Release);
            (floods.into_iter().map(|flood| flood.join().expect("no panic")).sum::<u64>(), drains, grown)
        });
        drop(server);
        probe.settle(link, 0);
        println!("{sent} datagrams, {drains} drains, {grown} of them with something new");
        assert!(sent > 1000 && grown > drains / 4, "{sent} datagrams, {grown} of {drains} drains with something new");
    });
}

/// A thousand times, but for ten seconds at most. How often, and how often there was something new. What was missed is not made up for: it would be
/// in one go, with nothing between.
fn drain_at_a_kilohertz(probe: &mut Books) -> (u32, u32) {
    const PERIOD: Duration = Duration::from_millis(1);
    let (started, mut drains, mut grown) = (Instant::now(), 0, 0);
    let mut next = started + PERIOD;
    while drains < 1000 && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next = (next + PERIOD).max(Instant::now());
        let mut packets = 0;
        probe.poll(&mut drop).expect("room");
        probe.drain(&mut |one| packets += one.counters.egress.packets).expect("drained");
        drains += 1;
        grown += u32::from(packets > 0);
    }
    println!("{:.0} drains a second", f64::from(drains) / started.elapsed().as_secs_f64());
    (drains, grown)
}

/// From one port, as fast as it goes. How many.
fn flood_until(done: &AtomicBool, port: u16) -> u64 {
    let socket = UdpSocket::bind(("198.51.100.2", port)).expect("bound");
    let mut sent = 0;
    while !done.load(Ordering::Acquire) {
        // Full queues are no failure.
        sent += u64::from(socket.send_to(&[1; 100], (HOST, 4000)).is_ok());
    }
    sent
}

/// Closed flows leave the kernel's table while others go on, and nothing is lost by it. A flow that comes back is counted on.
#[test]
fn flows_leave_and_come_back_without_losing_a_packet() {
    with_link(|link| {
        let Some(mut probe) = probe() else { return };
        probe.attach_link(link.host_ifindex).expect("attached");
        link.up();
        let server = UdpSocket::bind((HOST, 4000)).expect("bound");
        let mut sums = std::collections::HashMap::<_, u64>::new();
        let mut seen = 0;
        for round in 0..40 {
            link.in_target(|| {
                let client = UdpSocket::bind("198.51.100.2:5000").expect("bound");
                (0..25).for_each(|_| send(&client, 10, (HOST, 4000)));
            });
            probe.drain.flows.retire_all(round % 2 == 0);
            let add = &mut |one: Increment| *sums.entry(one.traffic).or_default() += one.counters.egress.packets;
            probe.drain(add).expect("drained");
            seen = seen.max(probe.drain.flows.live());
        }
        drop(server);
        probe.settle(link, 0);
        let flow = sums.iter().find(|(traffic, _)| matches!(traffic, Traffic::Flow(key) if key.protocol == 17));
        assert_eq!(flow.map(|(_, packets)| *packets), Some(1000));
        assert!(seen < 8, "{seen} entries for one flow");
    });
}
