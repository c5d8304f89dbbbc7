//! The classifier for cgroups: the same source, for packets without an Ethernet header. It is
//! compared with the user-space build on the packets in golden frames.

use std::collections::HashMap;
use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Command, Stdio};

use netwatch_common::flow::FlowValue;
use netwatch_common::parse::{Captured, Frame, Header, Hook, LinkType, Meta};

use super::frames::*;
use super::golden;
use super::namespace::with_link;
use super::reference::ReferenceMeter;
use super::{EntryId, assert_same, describe, is_linux};
use crate::flow::{Increment, ObservationPoint};
use crate::meter::abi::Growth;
use crate::meter::{DrainProgress, Hooks, KernelMeter, KernelMeterConfig, sys};

const UDP: u8 = 17;
const ETHERNET: usize = 14;

/// A packet without a link layer.
struct IpPacket<'a>(Captured<'a>);

impl Frame for IpPacket<'_> {
    fn len(&self) -> u32 {
        self.0.len()
    }

    fn link(&self) -> LinkType {
        LinkType::Ip
    }

    fn header<T: Header>(&self, offset: u32) -> Option<&T> {
        self.0.header(offset)
    }
}

fn load() -> KernelMeter {
    let config = KernelMeterConfig { hooks: Hooks::Cgroups, ..KernelMeterConfig::default() };
    KernelMeter::load(&config).expect("the classifier for cgroups loads")
}

/// Runs a frame, from which the kernel removes the Ethernet header, through a program, as if it
/// passed the interface. `ifindex` is 0 for the loopback.
fn run(meter: &KernelMeter, program: &str, frame: &[u8], meta: &Meta, ifindex: u32) -> std::io::Result<()> {
    // Offsets in `struct __sk_buff`, which is a stable interface.
    let mut context = [0_u8; 192];
    context[40..][..4].copy_from_slice(&ifindex.to_ne_bytes());
    context[164..][..4].copy_from_slice(&meta.gso_segs.to_ne_bytes());
    context[176..][..4].copy_from_slice(&meta.gso_size.to_ne_bytes());
    let (verdict, _) = sys::test_run(meter.loaded.program(program).as_fd(), frame, &context, 1)?;
    assert_eq!(verdict, 1, "every packet passes");
    Ok(())
}

fn tables(meter: &mut KernelMeter) -> HashMap<EntryId, FlowValue> {
    let mut entries = HashMap::new();
    meter.drain.snapshot(&mut |&Growth { key, now, .. }| _ = entries.insert((*key, now.epoch), *now));
    entries
}

fn drained(meter: &mut KernelMeter) -> Vec<Increment> {
    let (mut progress, mut increments) = (DrainProgress::default(), Vec::new());
    while meter.drain_part(&mut progress, &mut |increment| increments.push(increment)).expect("drained") {}
    increments
}

/// Whether the frame is an IP packet behind an Ethernet header, as a socket sees one.
fn is_ip(frame: &[u8]) -> bool {
    golden::is_runnable(frame) && matches!(frame[12..14], [0x08, 0x00] | [0x86, 0xdd])
}

/// Before, the kernel lets these programs read no packet in such a run.
fn can_run() -> bool {
    is_linux(6, 14, "packets of test runs at cgroups")
}

#[test]
fn kernel_and_user_space_agree_on_golden_packets() {
    if !can_run() {
        return;
    }
    with_link(|link| {
        let mut done = 0;
        for case in golden::all().iter().filter(|case| case.frames.iter().all(|frame| is_ip(frame))) {
            let (mut meter, mut host) = (load(), ReferenceMeter::default());
            for frame in &case.frames {
                run(&meter, "cgroup_egress", frame, &case.meta, link.host_ifindex)
                    .unwrap_or_else(|error| panic!("{}: {error}", case.name));
                host.count(&IpPacket(Captured::whole(&frame[ETHERNET..])), &case.meta, Hook::FromTarget);
            }
            assert_same(tables(&mut meter), host.entries, case.name);
            done += 1;
        }
        assert!(done > 30, "{done} cases");
    });
}

/// A wire carries two packets of 1,500 bytes for a buffer of 2,948.
#[test]
fn segments_count_as_ip_packets() {
    if !can_run() {
        return;
    }
    with_link(|link| {
        let mut meter = load();
        let mut segment = tcp(0x10, 2896 + 12);
        segment[12] = 0x80;
        let meta = Meta { gso_segs: 2, gso_size: 1448, tagged: false };
        for program in ["cgroup_egress", "cgroup_ingress"] {
            run(&meter, program, &ipv4(6, &segment), &meta, link.host_ifindex).expect("runs");
        }
        let mut lines: Vec<_> = drained(&mut meter).iter().map(describe).collect();
        lines.sort();
        let expected = [
            "6 198.51.100.2 40000 203.0.113.9 443 | sent 1 2 2948 3000",
            "6 203.0.113.9 443 198.51.100.2 40000 | got 1 2 2948 3000",
        ];
        assert_eq!(lines, expected);
    });
}

/// Packets between two sockets of the cgroup pass both hooks; those of others pass one.
#[test]
fn a_packet_on_the_loopback_counts_once() {
    if !can_run() {
        return;
    }
    with_link(|_| {
        let mut meter = load();
        let (there, back) = (ipv4(UDP, &udp(53, 10)), reversed(&ipv4(UDP, &udp(53, 10))));
        let passes = |program: &str, frame: &[u8]| run(&meter, program, frame, &Meta::default(), 0).expect("runs");
        // Another program of the machine sends: the target only receives.
        passes("cgroup_ingress", &there);
        // The target answers, and nothing but the target receives it.
        (0..3).for_each(|_| passes("cgroup_egress", &back));
        (0..3).for_each(|_| passes("cgroup_ingress", &back));
        let increments = drained(&mut meter);
        assert!(increments.iter().all(|one| one.point == ObservationPoint::Loopback));
        let both = increments
            .iter()
            .map(|one| one.counters.both())
            .fold((0, 0), |(skbs, bytes), counters| (skbs + counters.skbs, bytes + counters.bytes));
        assert_eq!(both, (4, 4 * 38));
    });
}

/// The table of processes is full of others when a selected process forks.
#[test]
fn a_process_that_cannot_be_selected_is_a_loss() {
    const MAX_PROCESSES: u32 = 65_536;
    /// Numbers that no process has (`PID_MAX_LIMIT`).
    const UNUSED: u32 = 1 << 22;
    with_link(|_| {
        let config = KernelMeterConfig { hooks: Hooks::Processes, ..KernelMeterConfig::default() };
        let meter = KernelMeter::load(&config).expect("the classifier for cgroups loads");
        let selection = meter.process_selection().expect("attached");
        let mut shell = Command::new("sh");
        shell.args(["-c", "read line; /bin/true; /bin/true; exit 0"]).stdin(Stdio::piped());
        let mut shell = shell.spawn().expect("a shell");
        selection.add_process(shell.id()).expect("selected");
        (1..MAX_PROCESSES).for_each(|number| selection.add_process(UNUSED + number).expect("room"));
        assert_eq!(meter.lost().expect("readable").unselected, 0);
        drop(shell.stdin.take());
        shell.wait().expect("ended");
        assert_eq!(meter.lost().expect("readable").unselected, 2, "both children");
    });
}

/// A number that only this socket has. The kernel gives the next sockets of the CPU the next ones,
/// up to a multiple of 4096.
fn cookie(socket: &UdpSocket) -> u64 {
    let (mut cookie, mut len) = (0_u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `len` bytes.
    let result = unsafe {
        let to = (&raw mut cookie).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, to, &raw mut len)
    };
    assert_eq!(result, 0, "Linux 4.12");
    cookie
}

/// The namespace has no memory for marks: each packet of a found socket tries again.
#[test]
fn a_found_socket_without_a_mark_is_counted_and_is_not_unselected() {
    if !can_run() {
        return;
    }
    with_link(|link| {
        let config = KernelMeterConfig { hooks: Hooks::Processes, ..KernelMeterConfig::default() };
        let mut meter = KernelMeter::load(&config).expect("the classifier for cgroups loads");
        let mut selection = meter.process_selection().expect("attached");
        std::fs::write("/proc/sys/net/core/optmem_max", "0").expect("of this namespace");
        super::stay_on_one_cpu();
        let socket = || UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let frame = ipv4(UDP, &udp(53, 10));
        // Other tests may use up the cookies in between.
        let counted = (0..5).map(|_| {
            let last = (0..).map(|_| cookie(&socket())).find(|cookie| cookie % 4096 < 3000).expect("a cookie");
            (1..1000).for_each(|next| selection.add_socket(last + next).expect("room"));
            for _ in 0..3 {
                run(&meter, "cgroup_egress", &frame, &Meta::default(), link.host_ifindex).expect("runs");
            }
            drained(&mut meter).iter().map(|one| one.counters.egress.skbs).sum::<u64>()
        });
        assert!(counted.into_iter().any(|skbs| skbs == 3), "each packet is counted");
        assert_eq!(meter.lost().expect("readable").unselected, 0);
        // New sockets that cannot be marked count once each.
        let is_v2 = |path: &&str| Path::new(path).join("cgroup.procs").exists();
        let Some(root) = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].into_iter().find(is_v2) else {
            return println!("skipped: cgroup v2 is not mounted");
        };
        selection.attach(File::open(root).expect("a cgroup").as_fd(), "all").expect("attached");
        selection.add_process(std::process::id()).expect("selected");
        let _sockets = [socket(), socket()];
        assert_eq!(meter.lost().expect("readable").unselected, 2);
    });
}

#[test]
fn the_classifier_for_cgroups_stays_small() {
    with_link(|_| {
        let meter = load();
        for (name, program) in meter.named_programs() {
            let info = sys::program_info(program).expect("readable");
            println!("{name}: {} verified, {} instructions", info.verified_insns, info.xlated_prog_len / 8);
        }
        assert!(meter.verified_instructions().expect("Linux 5.16") < 50_000);
    });
}
