//! Tests of counts on a real link, and of the balance with the interface's counters.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::checked::CheckedMeter;
use super::namespace::{TestLink, bind_again, with_link};
use super::{default_meter, drained, is_linux, meter_with};
use crate::flow::{Counters, Direction, Increment, ObservationPoint, Traffic};
use crate::meter::{AttachMethod, KernelMeterConfig, Notification, SampleReason};

const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Attaches, brings the link up, runs `traffic`, and settles.
fn measured(
    link: &TestLink,
    mut meter: CheckedMeter,
    traffic: impl FnOnce(&TestLink),
) -> (Vec<Increment>, CheckedMeter) {
    meter.attach_link(link.host_ifindex).expect("attached to the link");
    meter.attach_loopback(link.target.as_fd()).expect("attached to lo");
    link.up();
    traffic(link);
    (meter.settle(link, 0), meter)
}

fn udp_flow(increments: &[Increment], port: u16) -> Increment {
    let is_it = |one: &&Increment| matches!(one.traffic, Traffic::Flow(key) if key.protocol == 17 && (key.remote.port == port || key.local.port == port));
    *increments.iter().find(is_it).expect("the flow")
}

/// Sends `count` datagrams of `size` bytes and answers every second one, in lockstep so that no
/// queue overflows.
fn exchange(link: &TestLink, server: &str, client: &str, count: usize, size: usize) {
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
        let Some(meter) = meter_with(&KernelMeterConfig { methods, ..KernelMeterConfig::default() }) else { return };
        let (increments, mut meter) = measured(link, meter, |link| {
            exchange(link, "198.51.100.1:4000", "198.51.100.2:5000", 100, 700);
            exchange(link, "[2001:db8::1]:4000", "[2001:db8::2]:5001", 40, 900);
        });
        assert_eq!(meter.method(), Some(methods[0]));
        let v4 = udp_flow(&increments, 5000);
        let sized = |skbs, size: u64| Counters { skbs, packets: skbs, bytes: skbs * size, wire_bytes: skbs * size };
        assert_eq!((v4.counters.egress, v4.counters.ingress), (sized(100, 742), sized(50, 742)));
        assert_eq!((v4.opened_by, v4.point), (Direction::Egress, ObservationPoint::Link));
        let v6 = udp_flow(&increments, 5001);
        assert_eq!((v6.counters.egress, v6.counters.ingress), (sized(40, 962), sized(20, 962)));
        assert!(v4.first_seen_ns < v4.last_seen_ns && v4.last_seen_ns < v6.last_seen_ns);
        assert_eq!(drained(&mut meter), [], "no growth");
        meter.detach().expect("detached");
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
fn the_loopback_counts_once_and_its_opener_is_local() {
    with_link(|link| {
        let Some(meter) = default_meter() else { return };
        let (increments, _meter) = measured(link, meter, |link| {
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
        let Some(meter) = default_meter() else { return };
        const MEGABYTES: usize = 8;
        let (increments, mut meter) = measured(link, meter, |link| {
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
        assert_eq!((tcp.flags.egress & 3, tcp.flags.ingress & 3), (3, 3), "SYN and FIN in both directions");
        let Counters { skbs, packets, bytes, wire_bytes } = flow.counters.egress;
        assert!(packets > skbs && wire_bytes - bytes == (packets - skbs) * 66, "{:?}", flow.counters.egress);
        let mut samples = Vec::new();
        meter
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
        assert_eq!(meter.lost().expect("readable"), crate::flow::ObservationLosses::default());
    });
}

#[test]
fn a_full_table_counts_all_packets() {
    with_link(|link| {
        let config = KernelMeterConfig { max_flows: 16, ..KernelMeterConfig::default() };
        let Some(meter) = meter_with(&config) else { return };
        let (increments, meter) = measured(link, meter, |link| {
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
        // With some source ports, both buckets of a flow are full before the table is.
        let lost = meter.lost().expect("readable");
        assert!(
            lost.table_full > 0 && lost.table_full + lost.insert_failed >= overflow.counters.egress.packets,
            "{lost:?}"
        );
    });
}

/// Two senders at full speed, and about one drain per millisecond.
#[test]
fn drains_at_a_kilohertz_under_full_load_lose_nothing() {
    with_link(|link| {
        let Some(mut meter) = default_meter() else { return };
        meter.attach_link(link.host_ifindex).expect("attached to the link");
        link.up();
        let server = UdpSocket::bind((HOST, 4000)).expect("bound");
        let done = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let done = &done;
            let floods = [5000, 5001].map(|port| scope.spawn(move || link.in_target(|| flood_until(done, port))));
            drain_at_a_kilohertz(&mut meter);
            done.store(true, Ordering::Release);
            floods.into_iter().map(|flood| flood.join().expect("no panic")).sum::<u64>()
        });
        drop(server);
        meter.settle(link, 0);
        assert!(sent > 1000, "{sent} datagrams");
    });
}

/// Drains about once per millisecond, until at least 250 drains have handed over new packets.
/// Missed periods are not made up for: that would be a burst of drains without packets in between.
fn drain_at_a_kilohertz(meter: &mut CheckedMeter) {
    const PERIOD: Duration = Duration::from_millis(1);
    const MIN_DRAINS_WITH_GROWTH: u32 = 250;
    const TIMEOUT: Duration = Duration::from_secs(60);
    let (started, mut drains, mut with_growth) = (Instant::now(), 0, 0);
    let mut next = started + PERIOD;
    while drains < 1000 && started.elapsed() < Duration::from_secs(10) || with_growth < MIN_DRAINS_WITH_GROWTH {
        assert!(started.elapsed() < TIMEOUT, "{with_growth} of {drains} drains with growth");
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next = (next + PERIOD).max(Instant::now());
        let mut packets = 0;
        meter.poll(&mut drop).expect("room");
        meter.drain(&mut |one| packets += one.counters.egress.packets).expect("drained");
        drains += 1;
        with_growth += u32::from(packets > 0);
    }
    println!("{drains} drains, {with_growth} with growth, in {:?}", started.elapsed());
}

/// Sends datagrams from one port at full speed. Returns how many were sent.
fn flood_until(done: &AtomicBool, port: u16) -> u64 {
    let socket = UdpSocket::bind(("198.51.100.2", port)).expect("bound");
    let mut sent = 0;
    while !done.load(Ordering::Acquire) {
        // A full queue is not a failure.
        sent += u64::from(socket.send_to(&[1; 100], (HOST, 4000)).is_ok());
    }
    sent
}

/// A flow is retired repeatedly while it continues; all its packets are counted.
#[test]
fn retired_flows_continue_without_losing_a_packet() {
    with_link(|link| {
        let Some(mut meter) = default_meter() else { return };
        meter.attach_link(link.host_ifindex).expect("attached");
        link.up();
        let server = UdpSocket::bind((HOST, 4000)).expect("bound");
        let mut sums = std::collections::HashMap::<_, u64>::new();
        let mut add = |one: Increment| *sums.entry(one.traffic).or_default() += one.counters.egress.packets;
        let mut max_entries = 0;
        for round in 0..40 {
            link.in_target(|| {
                let client = bind_again("198.51.100.2:5000");
                (0..25).for_each(|_| send(&client, 10, (HOST, 4000)));
            });
            meter.table.lock().flows.retire_all(round % 2 == 0);
            meter.drain(&mut add).expect("drained");
            max_entries = max_entries.max(meter.table.lock().flows.live());
        }
        drop(server);
        // On a busy machine the last packets may wait in a backlog, after the last round's drain.
        meter.settle(link, 0).into_iter().for_each(add);
        let flow = sums.iter().find(|(traffic, _)| matches!(traffic, Traffic::Flow(key) if key.protocol == 17));
        assert_eq!(flow.map(|(_, packets)| *packets), Some(1000));
        assert!(max_entries < 8, "{max_entries} entries for one flow");
    });
}
