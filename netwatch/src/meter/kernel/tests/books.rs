//! A loaded classifier of which books are kept: every frame that is handed in, and everything that is drained. When it goes, both are equal, or its
//! test fails. What a link brought is compared with the counters of the interface itself.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use netwatch_common::remainder::OTHER_ETHERTYPES;

use super::namespace::Link;
use crate::error::Result;
use crate::flow::{Amount, Increment, ObservationPoint, PerDirection, Traffic};
use crate::meter::{KernelMeter, sys};

/// The programs that packets enter by: what the target sent, what it received, what it said to itself.
const HOOKS: [&str; 3] = ["link_egress", "link_ingress", "loopback"];

/// Derefs to the probe; what has to go into the books has a method of the same name here.
pub(super) struct Books {
    probe: KernelMeter,
    handed_in: Arc<[HandedIn; 3]>,
    drained: [Amount; 3],
    /// Packets, of what was drained, that found no entry: certainly, and perhaps (a frame may have that EtherType itself).
    unplaced: [u64; 2],
    link: State,
    /// Its loopback too.
    on_loopback: bool,
}

#[derive(Debug, Default)]
struct HandedIn {
    skbs: AtomicU64,
    bytes: AtomicU64,
}

/// What the test does with a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    None,
    Attached,
    Settled,
}

/// An entry point of the loaded classifier, for any thread.
pub(super) struct Entry {
    program: OwnedFd,
    hook: usize,
    handed_in: Arc<[HandedIn; 3]>,
}

impl Entry {
    /// Runs a frame through it so many times. `context` is a `__sk_buff` or empty.
    pub(super) fn run(&self, frame: &[u8], context: &[u8], times: u32) -> io::Result<()> {
        let (verdict, _) = sys::test_run(self.program.as_fd(), frame, context, times)?;
        assert_eq!(verdict, -1, "later classifiers run");
        let HandedIn { skbs, bytes } = &self.handed_in[self.hook];
        skbs.fetch_add(times.into(), Ordering::Relaxed);
        bytes.fetch_add(u64::from(times) * frame.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl Books {
    pub(super) fn open(probe: KernelMeter) -> Self {
        Self {
            probe,
            handed_in: Arc::default(),
            drained: [Amount::default(); 3],
            unplaced: [0; 2],
            link: State::None,
            on_loopback: false,
        }
    }

    pub(super) fn entry(&self, name: &str) -> Entry {
        let hook = HOOKS.iter().position(|one| *one == name).expect("an entry point");
        let program = self.probe.loaded.program(name).try_clone().expect("a descriptor");
        Entry { program, hook, handed_in: Arc::clone(&self.handed_in) }
    }

    pub(super) fn drain(&mut self, sink: &mut impl FnMut(Increment)) -> Result<()> {
        let Self { probe, drained, unplaced, .. } = self;
        probe.drain(&mut |increment| {
            enter(drained, &increment);
            let skbs = increment.counters.both().skbs;
            match increment.traffic {
                Traffic::Overflow(_) => unplaced[0] += skbs,
                Traffic::NonIp(OTHER_ETHERTYPES) => unplaced[1] += skbs,
                _ => {}
            }
            sink(increment);
        })
    }

    /// From here on the test has to end with [`Books::settle`].
    pub(super) fn attach_link(&mut self, ifindex: u32) -> Result<()> {
        self.link = State::Attached;
        self.probe.attach_link(ifindex)
    }

    /// As above.
    pub(super) fn attach_loopback(&mut self, netns: BorrowedFd<'_>) -> Result<()> {
        self.link = State::Attached;
        self.on_loopback = true;
        self.probe.attach_loopback(netns)
    }

    /// Takes the link down, drains, and requires what the interfaces counted. `beside` are bytes of VLAN tags, which they count and the classifier
    /// does not. What the last drain brought.
    pub(super) fn settle(&mut self, link: &Link, beside: u64) -> Vec<Increment> {
        let [received, sent] = link.settle();
        let lo = link.in_target(|| Link::counters("lo")[0]);
        let mut increments = Vec::new();
        self.drain(&mut |increment| increments.push(increment)).expect("drained");
        let [from_target, to_target, to_itself] = self.drained;
        let counted = |amount: Amount, more| (amount.skbs, amount.bytes + more);
        assert_eq!(counted(from_target, beside), received, "counted and received from the target");
        assert_eq!(counted(to_target, 0), sent, "counted and sent to the target");
        // `lo` counts no Ethernet headers, which its packets have all the same.
        let to_itself = counted(to_itself, 0);
        let expected = if self.on_loopback { (lo.0, lo.1 + 14 * lo.0) } else { (0, 0) };
        assert_eq!(to_itself, expected, "counted on the loopback, and by `lo` (0 where nothing is attached)");
        self.link = State::Settled;
        increments
    }

    /// Every frame that was handed in was counted, each with its bytes, and where no entry was found for one, that was said too.
    fn assert_even(&self) {
        let loads = self.handed_in.each_ref().map(|HandedIn { skbs, bytes }| Amount {
            skbs: skbs.load(Ordering::Relaxed),
            bytes: bytes.load(Ordering::Relaxed),
        });
        match self.link {
            State::None => assert_eq!(self.drained, loads, "counted and handed in, by {HOOKS:?}"),
            State::Attached => panic!("a test on a link ends with `settle`"),
            State::Settled => assert_eq!(loads, [Amount::default(); 3], "a link has packets of its own"),
        }
        let lost = self.probe.lost().expect("readable");
        let [certain, perhaps] = self.unplaced;
        let said = lost.table_full + lost.insert_failed;
        assert!((certain..=certain + perhaps).contains(&said), "{certain} packets without a flow, {lost:?}");
    }
}

fn enter(drained: &mut [Amount; 3], increment: &Increment) {
    let PerDirection { egress, ingress } = increment.counters.map(Amount::from);
    let [there, back] = if increment.point == ObservationPoint::Link { [0, 1] } else { [2, 2] };
    drained[there] += egress;
    drained[back] += ingress;
}

impl Deref for Books {
    type Target = KernelMeter;

    fn deref(&self) -> &KernelMeter {
        &self.probe
    }
}

impl DerefMut for Books {
    fn deref_mut(&mut self) -> &mut KernelMeter {
        &mut self.probe
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.drain(&mut drop).expect("drained");
            self.assert_even();
        }
    }
}
