//! The columns of the types of a report.

use std::net::IpAddr;

use rusqlite::types::ValueRef;

use super::cell::{Binder, Count, Cursor, MAX_NUMBER, Put, Take, TimeSum, Wrong, columns, text, words};
use crate::flow::{
    Amount, BalanceState, Counters, Difference, Direction, EndReason, Endpoint, EndpointKey, FailedAttempts,
    FileBalance, Flow, FlowKey, IcmpError, ObservationPoint, Payload, PayloadGap, PerDirection, Protocol, Remote,
    RoundTripTimes, TcpFacts, TransportAddress,
};
use crate::name::{Hidden, NameSource, ResponseTimes, SourcedName};
use crate::process::Evidence;
use crate::report::{
    ApplicationProtocol, DisplayName, EndedBy, EndedEarly, ExitStatus, FlowShare, Interval, TimeHistogram, TlsFacts,
};
use crate::wire::dns::{Question, RecordType};
use crate::wire::{Application, Name};

words!(Direction { Egress = "out", Ingress = "in" });
words!(ObservationPoint { Link = "link", Loopback = "loopback" });
words!(BalanceState { Closed = "closed", Open = "open", Live = "live", Unknown = "unknown", NotApplicable = "not_applicable" });
words!(NameSource {
    Sni = NameSource::Sni.name(),
    Quic = NameSource::Quic.name(),
    Http = NameSource::Http.name(),
    Dns = NameSource::Dns.name(),
    Mdns = NameSource::Mdns.name(),
    Llmnr = NameSource::Llmnr.name(),
    Hosts = NameSource::Hosts.name(),
    Ptr = NameSource::Ptr.name(),
});
words!(Evidence { Socket = "socket", Tuple = "tuple", Netns = "netns" });

columns!(Counters { skbs: Count, packets: Count, bytes: Count, wire_bytes: Count });
columns!(Amount { skbs: Count, bytes: Count });
columns!(Difference { skbs: i64, bytes: i64 });
columns!(TransportAddress { addr: IpAddr, port: u16 });
columns!(FlowKey {
    point: ObservationPoint,
    protocol: u8,
    fragment: bool,
    local: TransportAddress,
    remote: TransportAddress
});
columns!(RoundTripTimes { count: Count, sum_ns: u64, min_ns: Option<u64> });
columns!(IcmpError { kind: u8, code: u8 });
columns!(TcpFacts {
    flags: PerDirection<u8>,
    handshake_rtt_ns: Option<u64>,
    syns: PerDirection<Count>,
    syn_acks: PerDirection<Count>,
    resets: PerDirection<Count>,
    retransmitted_packets: PerDirection<Count>,
    retransmitted_bytes: PerDirection<Count>,
    zero_windows: PerDirection<Count>,
    round_trips: RoundTripTimes,
});
columns!(EndpointKey { remote: Remote, protocol: Protocol, port: u16, direction: Direction, fragment: bool });
columns!(FailedAttempts {
    refused: Count,
    unanswered: Count,
    unanswered_tries: Count,
    reset: Count,
    unreachable: Count
});
columns!(FileBalance { frames: Amount, left_out: Amount, difference: Difference });
columns!(DisplayName { name: Name, source: NameSource });
columns!(SourcedName { name: Name, source: NameSource, question: Option<Name>, first_seen_ns: u64 });
columns!(TlsFacts { offered_version: String, alpn: Vec<String>, ja4: Option<String>, post_quantum: bool });
columns!(ResponseTimes { count: Count, min_ns: u64, max_ns: u64, sum_ns: TimeSum });
columns!(Question { name: Name, kind: RecordType });
columns!(FlowShare { flows: Count, wire_bytes: Count });
columns!(EndedEarly { offset: u64, cause: String });
columns!(Interval {
    start_ns: u64,
    length_ns: u64,
    totals: PerDirection<Counters>,
    opened: Count,
    active: Count,
    connections: Count,
    closed: Count,
    open: Count,
    failed: Count,
    tcp_packets: Count,
    retransmitted: Count,
    dns_failed: Count,
    lost: Count,
    cpu_ns: TimeSum,
    memory: Option<u64>,
    connect: TimeHistogram,
    round_trip: TimeHistogram,
    dns: TimeHistogram,
});

/// Bins as JSON, for SQLite's `json_each`.
impl Put for TimeHistogram {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        self.bins().to_vec().put(row)?;
        self.max().min(MAX_NUMBER).put(row)?;
        self.sum().min(MAX_NUMBER).put(row)
    }
}

impl Take for TimeHistogram {
    const WIDTH: usize = 3;

    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        let (bins, max, sum) = (row.take()?, row.take()?, row.take()?);
        Self::of_parts(bins, max, sum).ok_or_else(|| Wrong::Value("times contradict each other".to_owned()))
    }
}

impl<T: Put> Put for PerDirection<T> {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        self.egress.put(row)?;
        self.ingress.put(row)
    }
}

impl<T: Take> Take for PerDirection<T> {
    const WIDTH: usize = 2 * T::WIDTH;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        Ok(Self { egress: row.take()?, ingress: row.take()? })
    }
}

/// Without the payload, whose columns are the last of the table.
impl Put for Endpoint {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        self.key.put(row)?;
        [self.flows, self.connections].iter().try_for_each(|count| count.put(row))?;
        self.counters.put(row)?;
        self.handshake_rtt_ns.put(row)?;
        self.failed.put(row)
    }
}

impl Take for Endpoint {
    const WIDTH: usize = EndpointKey::WIDTH + 2 * Counters::WIDTH + FailedAttempts::WIDTH + 3;

    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        Ok(Self {
            key: row.take()?,
            flows: row.take::<Count>()?.into(),
            connections: row.take::<Count>()?.into(),
            counters: row.take()?,
            payload: Payload::unknown(PayloadGap::NotRecorded),
            handshake_rtt_ns: row.take()?,
            failed: row.take()?,
        })
    }
}

/// Why it is unknown, or the bytes.
impl Put for Payload {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        self.gap().put(row)?;
        self.bytes().map(|bytes| bytes.egress).put(row)?;
        self.bytes().map(|bytes| bytes.ingress).put(row)
    }
}

/// Before schema 5 nothing was recorded.
impl Take for Payload {
    const WIDTH: usize = 3;

    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        let gap: Option<PayloadGap> = row.take()?;
        let (egress, ingress): (Option<u64>, Option<u64>) = (row.take()?, row.take()?);
        let bytes = egress.zip(ingress).map(|(egress, ingress)| Self::of_bytes(PerDirection { egress, ingress }));
        Ok(bytes.filter(|_| gap.is_none()).unwrap_or(Self::unknown(gap.unwrap_or(PayloadGap::NotRecorded))))
    }
}

impl Put for PayloadGap {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        row.bind(self.name())
    }
}

impl Take for PayloadGap {
    const WIDTH: usize = 1;

    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        text(row, Self::of_name)
    }
}

/// The serial number is the key of the row. Without the payload, whose columns are the last of the
/// table.
impl Put for Flow {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        self.key.put(row)?;
        self.epoch.put(row)?;
        self.counters.put(row)?;
        [self.first_seen_ns, self.last_seen_ns].iter().try_for_each(|time| time.put(row))?;
        self.opened_by.put(row)?;
        self.connections.put(row)?;
        self.tcp.put(row)?;
        self.icmp_error.put(row)?;
        self.end_reason().put(row)
    }
}

impl Take for Flow {
    const WIDTH: usize = FlowKey::WIDTH + 2 * Counters::WIDTH + TcpFacts::WIDTH + IcmpError::WIDTH + 6;

    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        Ok(Self {
            key: row.take()?,
            epoch: row.take()?,
            serial: 0,
            counters: row.take()?,
            payload: Payload::unknown(PayloadGap::NotRecorded),
            first_seen_ns: row.take()?,
            last_seen_ns: row.take()?,
            opened_by: row.take()?,
            connections: row.take::<Count>()?.into(),
            tcp: row.take()?,
            icmp_error: row.take()?,
            ended: row.take()?,
        })
    }
}

impl Put for EndReason {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        self.number().put(row)
    }
}

impl Take for EndReason {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        let value = row.value()?;
        let has_number = |reason: &Self| value == ValueRef::Integer(reason.number().into());
        Self::ALL.into_iter().find(has_number).ok_or_else(|| row.wrong(value))
    }
}

/// Types that wrap a number.
macro_rules! numbers {
    ($($type:ident ( $inner:ty )),*) => {$(
        impl Put for $type {
            fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
                self.0.put(row)
            }
        }

        impl Take for $type {
            const WIDTH: usize = 1;
            fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
                row.take::<$inner>().map(Self)
            }
        }
    )*};
}
numbers!(Protocol(u8), RecordType(u16));

impl Put for Name {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        self.as_str().put(row)
    }
}

impl Take for Name {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        text(row, |text| Some(Self::of_text(text)))
    }
}

/// An address, or NULL for all other remotes: never part of an optional value.
impl Put for Remote {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Others => None,
        }
        .put(row)
    }
}

impl Take for Remote {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        Ok(row.take::<Option<IpAddr>>()?.map_or(Self::Others, Self::Address))
    }
}

impl Put for ApplicationProtocol {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        self.name.as_ref().put(row)?;
        self.evidence.as_ref().put(row)
    }
}

impl Take for ApplicationProtocol {
    const WIDTH: usize = 2;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        Ok(Self { name: row.take::<String>()?.into(), evidence: row.take::<String>()?.into() })
    }
}

/// A code or a signal: two columns, one of which is NULL.
impl Put for ExitStatus {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        let (code, signal) = match self {
            Self::Code(code) => (Some(*code), None),
            Self::Signal(signal) => (None, Some(*signal)),
        };
        code.put(row)?;
        signal.put(row)
    }
}

/// The exit status of a command that may still be running.
pub(super) fn take_exit(row: &mut Cursor<'_>) -> Result<Option<ExitStatus>, Wrong> {
    let (code, signal) = (row.take::<Option<i32>>()?, row.take::<Option<i32>>()?);
    Ok(code.map(ExitStatus::Code).or(signal.map(ExitStatus::Signal)))
}

impl Put for EndedBy {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        let (word, signal) = match self {
            Self::Command => ("command", None),
            Self::Duration => ("duration", None),
            Self::Signal(signal) => ("signal", Some(*signal)),
        };
        word.put(row)?;
        signal.put(row)
    }
}

impl Take for EndedBy {
    const WIDTH: usize = 2;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        let word: String = row.take()?;
        Ok(match (word.as_str(), row.take::<Option<i32>>()?) {
            ("command", _) => Self::Command,
            ("duration", _) => Self::Duration,
            ("signal", Some(signal)) => Self::Signal(signal),
            _ => return Err(Wrong::Value(format!("ended_by cannot be '{}'", word.escape_default()))),
        })
    }
}

impl Put for Application {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        self.name().put(row)
    }
}

/// Only the application protocols of lookups.
impl Take for Application {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        let all = [Self::Dns, Self::Mdns, Self::Llmnr];
        text(row, |text| all.into_iter().find(|application| application.name() == text))
    }
}

/// Every reason.
const HIDDEN: [Hidden; 7] =
    [Hidden::Doh, Hidden::Dot, Hidden::Doq, Hidden::Ech, Hidden::EchPossible, Hidden::Esni, Hidden::NoServerName];

/// Names of reasons.
pub(super) fn hidden_names(reasons: &[Hidden]) -> Vec<&'static str> {
    reasons.iter().map(|reason| reason.name()).collect()
}

/// The reason of a name.
pub(super) fn hidden_of(name: &str) -> Result<Hidden, Wrong> {
    let found = HIDDEN.into_iter().find(|reason| reason.name() == name);
    found.ok_or_else(|| Wrong::Value(format!("hidden cannot be '{}'", name.escape_default())))
}
