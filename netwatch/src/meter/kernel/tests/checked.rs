//! A kernel meter that checks its balance: it records every frame that is fed and everything that
//! is drained. When it is dropped, both must be equal, or the test fails. Packets on a link are
//! compared with the counters of the interface.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use netwatch_common::remainder::OTHER_ETHERTYPES;

use super::namespace::TestLink;
use crate::error::Result;
use crate::flow::{Amount, Increment, ObservationPoint, PerDirection, Traffic};
use crate::meter::kernel::table::KernelTable;
use crate::meter::{DrainProgress, KernelMeter, sys};

/// The entry points: for packets that the target sent, received, and sent to itself.
const HOOKS: [&str; 3] = ["link_egress", "link_ingress", "loopback"];

/// Derefs to the meter. Methods that affect the balance have the same names here.
pub(in crate::meter::kernel) struct CheckedMeter {
    meter: KernelMeter,
    fed: Arc<[FedFrames; 3]>,
    drained: [Amount; 3],
    /// Drained packets that found no entry: certainly, and possibly (a frame may have that
    /// EtherType itself).
    without_entry: [u64; 2],
    link: LinkState,
    /// Whether the loopback is attached too.
    on_loopback: bool,
}

#[derive(Debug, Default)]
struct FedFrames {
    skbs: AtomicU64,
    bytes: AtomicU64,
}

/// How the test uses a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkState {
    None,
    Attached,
    Settled,
}

/// An entry point of the loaded classifier. It can be used on any thread.
pub(in crate::meter::kernel) struct FeedPoint {
    program: OwnedFd,
    hook: usize,
    fed: Arc<[FedFrames; 3]>,
}

impl FeedPoint {
    /// Runs a frame through the entry point, `times` times. `context` is a `__sk_buff` or empty.
    pub(in crate::meter::kernel) fn run(&self, frame: &[u8], context: &[u8], times: u32) -> io::Result<()> {
        let (verdict, _) = sys::test_run(self.program.as_fd(), frame, context, times)?;
        assert_eq!(verdict, -1, "later classifiers run");
        let FedFrames { skbs, bytes } = &self.fed[self.hook];
        skbs.fetch_add(times.into(), Ordering::Relaxed);
        bytes.fetch_add(u64::from(times) * frame.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl CheckedMeter {
    pub(in crate::meter::kernel) fn new(meter: KernelMeter) -> Self {
        Self {
            meter,
            fed: Arc::default(),
            drained: [Amount::default(); 3],
            without_entry: [0; 2],
            link: LinkState::None,
            on_loopback: false,
        }
    }

    pub(in crate::meter::kernel) fn feed_point(&self, name: &str) -> FeedPoint {
        let hook = HOOKS.iter().position(|one| *one == name).expect("an entry point");
        let program = self.meter.loaded.program(name).try_clone().expect("a descriptor");
        FeedPoint { program, hook, fed: Arc::clone(&self.fed) }
    }

    pub(in crate::meter::kernel) fn drain(&mut self, sink: &mut impl FnMut(Increment)) -> Result<()> {
        let mut progress = DrainProgress::default();
        while self.drain_part(&mut progress, sink)? {}
        Ok(())
    }

    /// Drains, and returns the number of parts.
    pub(super) fn drain_counting_parts(&mut self, sink: &mut impl FnMut(Increment)) -> usize {
        let (mut progress, mut parts) = (DrainProgress::default(), 1);
        while self.drain_part(&mut progress, sink).expect("drained") {
            parts += 1;
        }
        parts
    }

    pub(super) fn drain_part(
        &mut self,
        progress: &mut DrainProgress,
        sink: &mut impl FnMut(Increment),
    ) -> Result<bool> {
        let Self { meter, drained, without_entry, .. } = self;
        meter.drain_part(progress, &mut |increment| {
            add_increment(drained, &increment);
            let skbs = increment.counters.both().skbs;
            match increment.traffic {
                Traffic::Overflow(_) => without_entry[0] += skbs,
                Traffic::NonIp(OTHER_ETHERTYPES) => without_entry[1] += skbs,
                _ => {}
            }
            sink(increment);
        })
    }

    /// Hands over some entries from this number on, as a part of a drain does. Returns where to
    /// continue.
    pub(super) fn read_entries(&mut self, from: u32) -> (Option<u32>, Vec<Increment>) {
        let (clock, mut increments) = (self.meter.clock, Vec::new());
        let mut table = self.meter.table.lock();
        let KernelTable { fronts, flows } = &mut *table;
        let next = flows.read(from, false, fronts, clock, &mut increments).expect("read");
        drop(table);
        increments.iter().for_each(|one| add_increment(&mut self.drained, one));
        (next, increments)
    }

    /// Attaches to the link. The test must end with [`CheckedMeter::settle`].
    pub(in crate::meter::kernel) fn attach_link(&mut self, ifindex: u32) -> Result<()> {
        self.link = LinkState::Attached;
        self.meter.attach_link(ifindex)
    }

    /// Attaches to the loopback. The test must end with [`CheckedMeter::settle`].
    pub(in crate::meter::kernel) fn attach_loopback(&mut self, netns: BorrowedFd<'_>) -> Result<()> {
        self.link = LinkState::Attached;
        self.on_loopback = true;
        self.meter.attach_loopback(netns)
    }

    /// Takes the link down, drains, and compares the counts with those of the interfaces.
    /// `tag_bytes` are bytes of VLAN tags, which the interfaces count and the classifier does not.
    /// Returns the increments of the last drain.
    pub(in crate::meter::kernel) fn settle(&mut self, link: &TestLink, tag_bytes: u64) -> Vec<Increment> {
        let [received, sent] = link.settle();
        let lo = link.in_target(|| TestLink::counters("lo")[0]);
        let mut increments = Vec::new();
        self.drain(&mut |increment| increments.push(increment)).expect("drained");
        let [from_target, to_target, to_itself] = self.drained;
        let counted = |amount: Amount, more| (amount.skbs, amount.bytes + more);
        assert_eq!(
            counted(from_target, tag_bytes),
            received,
            "counted as sent by the target, and received by the interface"
        );
        assert_eq!(counted(to_target, 0), sent, "counted as received by the target, and sent by the interface");
        // The packets have Ethernet headers, which `lo` does not count.
        let to_itself = counted(to_itself, 0);
        let expected = if self.on_loopback { (lo.0, lo.1 + 14 * lo.0) } else { (0, 0) };
        assert_eq!(to_itself, expected, "counted on the loopback, and by `lo` (0 if not attached)");
        self.link = LinkState::Settled;
        increments
    }

    /// Requires that every fed frame was counted with its bytes, and that frames without an entry
    /// are among the losses.
    fn assert_balance(&self) {
        let loads = self.fed.each_ref().map(|FedFrames { skbs, bytes }| Amount {
            skbs: skbs.load(Ordering::Relaxed),
            bytes: bytes.load(Ordering::Relaxed),
        });
        match self.link {
            LinkState::None => assert_eq!(self.drained, loads, "counted and fed, by {HOOKS:?}"),
            LinkState::Attached => panic!("a test on a link must end with `settle`"),
            LinkState::Settled => assert_eq!(loads, [Amount::default(); 3], "no frames are fed on a link"),
        }
        let lost = self.meter.lost().expect("readable");
        let [certain, possible] = self.without_entry;
        let reported = lost.table_full + lost.insert_failed;
        assert!((certain..=certain + possible).contains(&reported), "{certain} packets without a flow, {lost:?}");
    }
}

fn add_increment(drained: &mut [Amount; 3], increment: &Increment) {
    let PerDirection { egress, ingress } = increment.counters.map(Amount::from);
    let [egress_at, ingress_at] = if increment.point == ObservationPoint::Link { [0, 1] } else { [2, 2] };
    drained[egress_at] += egress;
    drained[ingress_at] += ingress;
}

impl Deref for CheckedMeter {
    type Target = KernelMeter;

    fn deref(&self) -> &KernelMeter {
        &self.meter
    }
}

impl DerefMut for CheckedMeter {
    fn deref_mut(&mut self) -> &mut KernelMeter {
        &mut self.meter
    }
}

impl Drop for CheckedMeter {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.drain(&mut drop).expect("drained");
            self.assert_balance();
        }
    }
}
