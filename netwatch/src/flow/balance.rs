//! The balance: what was counted against what the interface counted, and against what it was counted under.

use std::ops::AddAssign;

use super::{Counters, FlowTable, ObservationPoint, PerDirection, RemainderKind};

/// One side of an interface's own counters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LinkCounters {
    /// Socket buffers; a GSO buffer is one.
    pub packets: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
    /// Discarded by the interface: in neither of the others.
    pub dropped: u64,
}

/// The counters of the veth's host end, as the kernel names them (`IFLA_STATS64`): `rx` is what the target sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Received by the host end: the target's egress.
    pub rx: LinkCounters,
    /// Sent by the host end: the target's ingress.
    pub tx: LinkCounters,
}

/// The two counters that an interface has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Socket buffers.
    pub skbs: u64,
    /// Bytes as the interface counts them.
    pub bytes: u64,
}

/// One amount minus another.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Socket buffers.
    pub skbs: i64,
    /// Bytes as the interface counts them.
    pub bytes: i64,
}

/// What the balance says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalanceState {
    /// Every packet is accounted for.
    Closed,
    /// There is a difference.
    Open,
    /// The interface was still up when it was read: the two sides were read at different moments, a difference means nothing.
    Live,
    /// The interface's counters were not read: it was gone, or netwatch before it came to that.
    Unknown,
}

/// The file's side of the balance of a replay, both directions together: a file has frames, not directions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FileBalance {
    /// What was read: frames as skbs, their lengths on the wire.
    pub frames: Amount,
    /// The part that could not be handed to a kernel.
    pub left_out: Amount,
    /// Frames minus what was left out, minus flows, minus remainders.
    pub difference: Difference,
}

/// The reconciliation of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// What netwatch counted, whatever it was counted under.
    pub counted: PerDirection<Amount>,
    /// What the interface counted; `None` when it vanished.
    pub interface: Option<PerDirection<Amount>>,
    /// Packets to the target that veth discarded after netwatch had counted them. The kernel keeps no bytes for them.
    pub dropped: u64,
    /// The flows' part, folded ones included.
    pub flows: PerDirection<Amount>,
    /// The part of each named remainder, in the order of [`RemainderKind::ALL`].
    pub remainders: Vec<(RemainderKind, PerDirection<Amount>)>,
    /// Interface (dropped packets included) minus flows minus remainders: positive is what netwatch missed. `None` when the interface vanished.
    pub difference: Option<PerDirection<Difference>>,
    /// Counted minus flows minus remainders: packets that netwatch counted under no name. Anything but 0 is a defect of netwatch.
    pub unassigned: PerDirection<Difference>,
    /// What it all says.
    pub state: BalanceState,
    /// Of a replay only, which has no interface.
    pub file: Option<FileBalance>,
}

/// The least a packet that veth dropped can have: an Ethernet header.
const ETHERNET_HEADER: i64 = 14;

impl Balance {
    /// Balances a table's link against the interface. `live` when the interface was still up while it was read.
    pub fn new(table: &FlowTable, interface: Option<InterfaceCounters>, live: bool) -> Self {
        let counted = amounts(table.counted(ObservationPoint::Link));
        let flows = amounts(table.flows_total(ObservationPoint::Link));
        let remainders: Vec<_> =
            RemainderKind::ALL.map(|kind| (kind, amounts(table.remainders(ObservationPoint::Link).of(kind)))).into();
        let assigned = remainders.iter().map(|(_, amount)| *amount).chain([flows]).sum();
        let dropped = interface.map_or(0, |counters| counters.tx.dropped);
        let interface = interface.map(from_host_end);
        let mut balance = Self {
            counted,
            interface,
            dropped,
            flows,
            remainders,
            difference: interface.map(|interface| difference(interface, assigned, dropped)),
            unassigned: counted.zip(assigned, Amount::minus),
            state: BalanceState::Unknown,
            file: None,
        };
        balance.state = balance.judge(live);
        balance
    }

    /// Balances a table against the frames of a file. `left_out` are those among them that were not counted.
    pub fn of_file(table: &FlowTable, frames: Amount, left_out: Amount) -> Self {
        let balance = Self::new(table, None, false);
        let mut taken = balance.flows.both();
        balance.remainders.iter().for_each(|(_, amount)| taken += amount.both());
        taken += left_out;
        let difference = frames.minus(taken);
        let closed = difference == Difference::default() && balance.unassigned == PerDirection::default();
        let state = if closed { BalanceState::Closed } else { BalanceState::Open };
        Self { state, file: Some(FileBalance { frames, left_out, difference }), ..balance }
    }

    /// True when every packet is accounted for.
    pub fn closed(&self) -> bool {
        self.state == BalanceState::Closed
    }

    fn judge(&self, live: bool) -> BalanceState {
        let Some(difference) = self.difference else { return BalanceState::Unknown };
        let even = self.unassigned == PerDirection::default()
            && difference.egress == Difference::default()
            && difference.ingress.skbs == 0
            && self.explained_by_drops(difference.ingress.bytes);
        match (live, even) {
            (true, _) => BalanceState::Live,
            (false, true) => BalanceState::Closed,
            (false, false) => BalanceState::Open,
        }
    }

    /// Dropped packets have bytes on our side only; how many is not known, but neither none nor the wrong sign.
    fn explained_by_drops(&self, bytes: i64) -> bool {
        let dropped = signed(self.dropped);
        if dropped == 0 { bytes == 0 } else { bytes <= dropped.saturating_mul(-ETHERNET_HEADER) }
    }
}

/// The host end's `rx` is the target's egress.
fn from_host_end(counters: InterfaceCounters) -> PerDirection<Amount> {
    let amount = |link: LinkCounters| Amount { skbs: link.packets, bytes: link.bytes };
    PerDirection { egress: amount(counters.rx), ingress: amount(counters.tx) }
}

/// The classifier sits in front of veth's transmit function, so it saw the packets that were dropped there; those of the other
/// direction are dropped before they reach it, and before they are counted as received (`veth_xmit` in drivers/net/veth.c).
fn difference(
    interface: PerDirection<Amount>,
    assigned: PerDirection<Amount>,
    dropped: u64,
) -> PerDirection<Difference> {
    let mut passed = interface;
    passed.ingress.skbs += dropped;
    passed.zip(assigned, Amount::minus)
}

fn amounts(counters: PerDirection<Counters>) -> PerDirection<Amount> {
    counters.map(Amount::from)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Amount {
    fn minus(self, other: Self) -> Difference {
        let minus = |a: u64, b: u64| if a >= b { signed(a - b) } else { -signed(b - a) };
        Difference { skbs: minus(self.skbs, other.skbs), bytes: minus(self.bytes, other.bytes) }
    }
}

impl From<Counters> for Amount {
    fn from(counters: Counters) -> Self {
        Self { skbs: counters.skbs, bytes: counters.bytes }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.skbs += other.skbs;
        self.bytes += other.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Direction, Housekeeping, Increment, Traffic};

    fn counters(skbs: u64, bytes: u64) -> Counters {
        Counters { skbs, packets: skbs, bytes, wire_bytes: bytes }
    }

    /// 3 frames of 42 bytes sent, 2 received.
    fn table() -> FlowTable {
        let mut table = FlowTable::default();
        table.apply(Increment {
            traffic: Traffic::Housekeeping(Housekeeping::Arp),
            point: ObservationPoint::Link,
            counters: PerDirection { egress: counters(3, 126), ingress: counters(2, 84) },
            first_seen_ns: 1,
            last_seen_ns: 2,
            opened_by: Direction::Egress,
            connections: 0,
            epoch: 0,
            ended: None,
            tcp: None,
        });
        table
    }

    fn interface(rx: (u64, u64), tx: (u64, u64), dropped: u64) -> Option<InterfaceCounters> {
        Some(InterfaceCounters {
            rx: LinkCounters { packets: rx.0, bytes: rx.1, dropped: 0 },
            tx: LinkCounters { packets: tx.0, bytes: tx.1, dropped },
        })
    }

    #[test]
    fn closes_when_both_sides_agree() {
        let balance = Balance::new(&table(), interface((3, 126), (2, 84), 0), false);
        assert!(balance.closed());
        assert_eq!(balance.difference, Some(PerDirection::default()));
    }

    #[test]
    fn is_open_by_what_was_missed() {
        let balance = Balance::new(&table(), interface((4, 168), (2, 84), 0), false);
        assert_eq!(balance.state, BalanceState::Open);
        assert_eq!(balance.difference.map(|by| by.egress), Some(Difference { skbs: 1, bytes: 42 }));
    }

    #[test]
    fn packets_that_veth_dropped_explain_their_bytes() {
        let balance = Balance::new(&table(), interface((3, 126), (1, 42), 1), false);
        assert!(balance.closed(), "{balance:?}");
        assert_eq!(balance.difference.map(|by| by.ingress), Some(Difference { skbs: 0, bytes: -42 }));
        assert!(!Balance::new(&table(), interface((3, 126), (1, 84), 1), false).closed(), "a dropped packet has bytes");
    }

    #[test]
    fn a_file_balances_in_both_directions_together() {
        let amount = |skbs, bytes| Amount { skbs, bytes };
        assert!(Balance::of_file(&table(), amount(5, 210), amount(0, 0)).closed());
        assert!(Balance::of_file(&table(), amount(6, 310), amount(1, 100)).closed());
        let missed = Balance::of_file(&table(), amount(6, 252), amount(0, 0));
        assert_eq!(
            (missed.state, missed.file.unwrap().difference),
            (BalanceState::Open, Difference { skbs: 1, bytes: 42 })
        );
    }

    #[test]
    fn live_and_unknown_figures_never_close() {
        assert_eq!(Balance::new(&table(), interface((3, 126), (2, 84), 0), true).state, BalanceState::Live);
        assert_eq!(Balance::new(&table(), None, false).state, BalanceState::Unknown);
    }
}
