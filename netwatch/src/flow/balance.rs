//! The balance: the packets that netwatch counted, compared with the counters of the interface and
//! with the sum of flows and remainders.

use std::ops::AddAssign;

use super::{Counters, FlowTable, ObservationPoint, PerDirection, RemainderKind};

/// Counters of an interface for one direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LinkCounters {
    /// Socket buffers. A GSO buffer counts as one.
    pub packets: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
    /// Packets that the interface discarded. They are not in the other counters.
    pub dropped: u64,
}

/// The counters of the host end of the veth pair, named as in `IFLA_STATS64`: `rx` was sent by the
/// target.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Received by the host end: the target's egress.
    pub rx: LinkCounters,
    /// Sent by the host end: the target's ingress.
    pub tx: LinkCounters,
}

impl InterfaceCounters {
    /// Adds the counters of another interface.
    pub fn add(&mut self, other: Self) {
        for (sum, part) in [(&mut self.rx, other.rx), (&mut self.tx, other.tx)] {
            sum.packets += part.packets;
            sum.bytes += part.bytes;
            sum.dropped += part.dropped;
        }
    }
}

/// A number of socket buffers and bytes: the two counters of an interface.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Socket buffers.
    pub skbs: u64,
    /// Bytes as the interface counts them.
    pub bytes: u64,
}

/// The difference of two amounts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Socket buffers.
    pub skbs: i64,
    /// Bytes as the interface counts them.
    pub bytes: i64,
}

/// The result of the balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalanceState {
    /// Every packet is accounted for.
    Closed,
    /// The sums differ.
    Open,
    /// The interface was still up when its counters were read, so both sides were read at different
    /// times and a difference is meaningless.
    Live,
    /// The counters of the interface were not read: the interface had disappeared, or netwatch
    /// ended before.
    Unknown,
    /// No interface counts the packets: those of the sockets of a cgroup.
    NotApplicable,
}

impl BalanceState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Closed, Self::Open, Self::Live, Self::Unknown, Self::NotApplicable];

    /// The word for it in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Live => "live",
            Self::Unknown => "unknown",
            Self::NotApplicable => "not_applicable",
        }
    }
}

/// The balance of a replay against the frames of the capture file. Frames in a file have no
/// direction, so these are sums of both directions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FileBalance {
    /// Frames that were read, as socket buffers, and their lengths on the wire.
    pub frames: Amount,
    /// Frames that could not be given to the kernel.
    pub left_out: Amount,
    /// Frames minus left-out frames, flows and remainders.
    pub difference: Difference,
}

/// The balance of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// What netwatch counted, in flows and remainders.
    pub counted: PerDirection<Amount>,
    /// What the interface counted; `None` if its counters were not read.
    pub interface: Option<PerDirection<Amount>>,
    /// Packets to the target that the veth pair discarded after netwatch counted them. The kernel
    /// does not count their bytes.
    pub dropped: u64,
    /// The sum of all flows, folded ones included.
    pub flows: PerDirection<Amount>,
    /// The sum of each kind of remainder, in the order of [`RemainderKind::ALL`].
    pub remainders: Vec<(RemainderKind, PerDirection<Amount>)>,
    /// Interface (dropped packets included) minus flows minus remainders. A positive difference is
    /// what netwatch missed. `None` if the counters of the interface were not read.
    pub difference: Option<PerDirection<Difference>>,
    /// Counted minus flows minus remainders. Any value except 0 is a bug in netwatch.
    pub unassigned: PerDirection<Difference>,
    /// The result.
    pub state: BalanceState,
    /// The comparison with a capture file; `None` except for a replay.
    pub file: Option<FileBalance>,
}

/// Minimum length of a packet that the veth pair dropped, bytes.
const ETHERNET_HEADER_BYTES: i64 = 14;

impl Balance {
    /// Compares the link of a table with the interface. `live` means that the interface was still
    /// up when its counters were read.
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
        balance.state = balance.evaluate(live);
        balance
    }

    /// Of packets that no interface counts.
    pub fn not_applicable(table: &FlowTable) -> Self {
        Self { state: BalanceState::NotApplicable, ..Self::new(table, None, false) }
    }

    /// Compares a table with the frames of a file. `left_out` is the part of them that was not
    /// counted.
    pub fn of_file(table: &FlowTable, frames: Amount, left_out: Amount) -> Self {
        let balance = Self::new(table, None, false);
        let mut assigned = balance.flows.both();
        balance.remainders.iter().for_each(|(_, amount)| assigned += amount.both());
        assigned += left_out;
        let difference = frames.minus(assigned);
        let closed = difference == Difference::default() && balance.unassigned == PerDirection::default();
        let state = if closed { BalanceState::Closed } else { BalanceState::Open };
        Self { state, file: Some(FileBalance { frames, left_out, difference }), ..balance }
    }

    /// True if every packet is accounted for.
    pub fn closed(&self) -> bool {
        self.state == BalanceState::Closed
    }

    fn evaluate(&self, live: bool) -> BalanceState {
        let Some(difference) = self.difference else { return BalanceState::Unknown };
        let is_equal = self.unassigned == PerDirection::default()
            && difference.egress == Difference::default()
            && difference.ingress.skbs == 0
            && self.explained_by_drops(difference.ingress.bytes);
        match (live, is_equal) {
            (true, _) => BalanceState::Live,
            (false, true) => BalanceState::Closed,
            (false, false) => BalanceState::Open,
        }
    }

    /// Whether dropped packets explain the difference in bytes. netwatch counted their bytes and
    /// the interface did not, so the difference is negative, by at least a header for each packet.
    fn explained_by_drops(&self, bytes: i64) -> bool {
        let dropped = signed(self.dropped);
        if dropped == 0 { bytes == 0 } else { bytes <= dropped.saturating_mul(-ETHERNET_HEADER_BYTES) }
    }
}

/// Converts from the view of the host end to that of the target.
fn from_host_end(counters: InterfaceCounters) -> PerDirection<Amount> {
    let amount = |link: LinkCounters| Amount { skbs: link.packets, bytes: link.bytes };
    PerDirection { egress: amount(counters.rx), ingress: amount(counters.tx) }
}

/// Interface minus assigned. Packets to the target pass the classifier before the transmit function
/// of the veth pair drops them, so the dropped ones are added. Packets of the other direction are
/// dropped before they reach the classifier and before they are counted as received (`veth_xmit` in
/// drivers/net/veth.c).
fn difference(
    interface: PerDirection<Amount>,
    assigned: PerDirection<Amount>,
    dropped: u64,
) -> PerDirection<Difference> {
    let mut sent = interface;
    sent.ingress.skbs += dropped;
    sent.zip(assigned, Amount::minus)
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
    use crate::flow::{Direction, Housekeeping, Increment, PayloadGrowth, Traffic};

    fn counters(skbs: u64, bytes: u64) -> Counters {
        Counters { skbs, packets: skbs, bytes, wire_bytes: bytes }
    }

    /// A table with 3 frames of 42 bytes sent and 2 received.
    fn table() -> FlowTable {
        let mut table = FlowTable::default();
        table.apply(Increment {
            traffic: Traffic::Housekeeping(Housekeeping::Arp),
            point: ObservationPoint::Link,
            counters: PerDirection { egress: counters(3, 126), ingress: counters(2, 84) },
            payload: PayloadGrowth::default(),
            first_seen_ns: 1,
            last_seen_ns: 2,
            opened_by: Direction::Egress,
            connections: 0,
            initial_sequence: None,
            epoch: 0,
            superseded: false,
            is_last: false,
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
    fn is_closed_if_both_sides_are_equal() {
        let balance = Balance::new(&table(), interface((3, 126), (2, 84), 0), false);
        assert!(balance.closed());
        assert_eq!(balance.difference, Some(PerDirection::default()));
    }

    #[test]
    fn reports_missed_packets_as_the_difference() {
        let balance = Balance::new(&table(), interface((4, 168), (2, 84), 0), false);
        assert_eq!(balance.state, BalanceState::Open);
        assert_eq!(balance.difference.map(|by| by.egress), Some(Difference { skbs: 1, bytes: 42 }));
    }

    #[test]
    fn accepts_the_bytes_of_dropped_packets() {
        let balance = Balance::new(&table(), interface((3, 126), (1, 42), 1), false);
        assert!(balance.closed(), "{balance:?}");
        assert_eq!(balance.difference.map(|by| by.ingress), Some(Difference { skbs: 0, bytes: -42 }));
        assert!(!Balance::new(&table(), interface((3, 126), (1, 84), 1), false).closed(), "a dropped packet has bytes");
    }

    #[test]
    fn compares_a_file_with_the_sum_of_both_directions() {
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
    fn is_never_closed_for_live_or_unknown_counters() {
        assert_eq!(Balance::new(&table(), interface((3, 126), (2, 84), 0), true).state, BalanceState::Live);
        assert_eq!(Balance::new(&table(), None, false).state, BalanceState::Unknown);
    }
}
