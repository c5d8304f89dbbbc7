//! Payload: the bytes that applications sent and received. Of TCP the part of the sequence space
//! that was sent, so that retransmits do not count; of UDP the content of the datagrams. It is
//! exact or unknown, never an estimate.

use std::ops::AddAssign;

use super::PerDirection;

/// Why a payload is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PayloadGap {
    /// The protocol is neither TCP nor UDP.
    Protocol,
    /// The handshake was not observed: it is unknown where the streams began.
    NoHandshake,
    /// Packets before the handshake, or SYNs that contradict each other.
    AmbiguousHandshake,
    /// TCP in IP fragments, or later fragments without their first.
    Fragment,
    /// So many packets were counted at once that the number of times the sequence numbers wrapped
    /// around is uncertain.
    TooMuch,
    /// Packets for which the flow table had no room.
    TableFull,
    /// The recording or document does not contain it.
    NotRecorded,
}

impl PayloadGap {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Protocol,
        Self::NoHandshake,
        Self::AmbiguousHandshake,
        Self::Fragment,
        Self::TooMuch,
        Self::TableFull,
        Self::NotRecorded,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::NoHandshake => "no_handshake",
            Self::AmbiguousHandshake => "ambiguous_handshake",
            Self::Fragment => "fragment",
            Self::TooMuch => "too_much",
            Self::TableFull => "table_full",
            Self::NotRecorded => "not_recorded",
        }
    }

    /// The reason with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// The growth of the payload of one entry of the meter since the previous drain.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PayloadGrowth {
    /// Bytes by direction; 0 while they are unknown. They can be negative: data of a SYN that was
    /// repeated without it, or an entry that was read between the additions of a packet.
    pub bytes: PerDirection<i64>,
    /// Why the payload of the entry is unknown. It may become known, as an entry is read while it
    /// changes.
    pub gap: Option<PayloadGap>,
    /// Whether it was unknown at the previous drain.
    pub had_gap: bool,
}

/// The payload of a flow, or of several.
#[derive(Debug, Default, Clone, Copy)]
pub struct Payload {
    /// The known parts. Negative after the growth of an entry that was read while it changed, until
    /// the next growth has the rest.
    bytes: PerDirection<i64>,
    /// Number of parts that are unknown.
    unknown: u32,
    /// Why the first of them is.
    gap: Option<PayloadGap>,
}

impl Payload {
    /// Bytes by direction.
    pub fn of_bytes(bytes: PerDirection<u64>) -> Self {
        Self { bytes: bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)), ..Self::default() }
    }

    /// A payload that is not known for this reason.
    pub fn unknown(gap: PayloadGap) -> Self {
        Self { unknown: 1, gap: Some(gap), ..Self::default() }
    }

    /// The bytes, if all of them are known.
    pub fn bytes(self) -> Option<PerDirection<u64>> {
        (self.unknown == 0).then_some(self.bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0)))
    }

    /// Why it is not known.
    pub fn gap(self) -> Option<PayloadGap> {
        self.gap.filter(|_| self.unknown > 0)
    }

    /// Why payload is missing in outputs: not for protocols that have none.
    pub fn missing(self) -> Option<PayloadGap> {
        self.gap().filter(|gap| *gap != PayloadGap::Protocol)
    }

    /// Adds the growth since the previous drain.
    pub fn grow(&mut self, growth: PayloadGrowth) {
        let PayloadGrowth { bytes, gap, had_gap } = growth;
        self.bytes = self.bytes.zip(bytes, i64::saturating_add);
        self.unknown = (self.unknown + u32::from(gap.is_some())).saturating_sub(had_gap.into());
        self.gap = self.gap().or(gap);
    }

    /// What has to be added to a sum that contains this payload as it was before. A sum with an
    /// unknown part stays unknown.
    pub fn since(self, before: Self) -> Self {
        let bytes = self.bytes.zip(before.bytes, i64::saturating_sub);
        Self { bytes, unknown: self.unknown.saturating_sub(before.unknown), gap: self.gap }
    }
}

/// What is known of it decides, not how many of its parts are unknown.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        (self.bytes(), self.gap()) == (other.bytes(), other.gap())
    }
}

impl Eq for Payload {}

/// A sum is known if all of its parts are. Saturates, as a recording may contain any number.
impl AddAssign for Payload {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.zip(other.bytes, i64::saturating_add);
        self.gap = self.gap().or(other.gap());
        self.unknown = self.unknown.saturating_add(other.unknown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(egress: u64, ingress: u64) -> Payload {
        Payload::of_bytes(PerDirection { egress, ingress })
    }

    fn grown(egress: i64, ingress: i64) -> PayloadGrowth {
        PayloadGrowth { bytes: PerDirection { egress, ingress }, ..PayloadGrowth::default() }
    }

    #[test]
    fn a_sum_is_unknown_if_a_part_is() {
        let mut sum = known(3, 4);
        sum += known(10, 0);
        assert_eq!(sum, known(13, 4));
        sum += Payload::unknown(PayloadGap::Fragment);
        sum += known(1, 1);
        sum += Payload::unknown(PayloadGap::NoHandshake);
        assert_eq!((sum.bytes(), sum.gap()), (None, Some(PayloadGap::Fragment)));
    }

    #[test]
    fn other_protocols_miss_no_payload() {
        let missing = |payload: Payload| payload.missing();
        assert_eq!(missing(Payload::unknown(PayloadGap::Protocol)), None);
        assert_eq!(missing(Payload::unknown(PayloadGap::TooMuch)), Some(PayloadGap::TooMuch));
        assert_eq!(missing(known(1, 2)), None);
    }

    #[test]
    fn payload_that_shrinks_is_subtracted() {
        let mut payload = Payload::default();
        payload.grow(grown(100, 5));
        payload.grow(grown(-100, 7));
        assert_eq!(payload, known(0, 12));
    }

    /// The headers of a datagram were counted already, and its bytes not yet.
    #[test]
    fn payload_that_is_read_too_early_is_complete_later() {
        let (mut payload, mut sum) = (known(0, 7), known(100, 100));
        sum += payload;
        for (growth, expected) in [(-42, 0), (52, 10)] {
            let before = payload;
            payload.grow(grown(growth, 0));
            assert_eq!(payload, known(expected, 7));
            sum += payload.since(before);
        }
        assert_eq!(sum, known(110, 107));
        sum += Payload::unknown(PayloadGap::Fragment).since(payload);
        assert_eq!(sum.gap(), Some(PayloadGap::Fragment));
    }

    #[test]
    fn payload_is_unknown_while_an_entry_is() {
        let gap = Some(PayloadGap::NoHandshake);
        let mut payload = known(7, 7);
        payload.grow(PayloadGrowth { gap, ..grown(0, 0) });
        payload.grow(PayloadGrowth { gap, had_gap: true, ..grown(0, 0) });
        assert_eq!((payload.bytes(), payload.gap()), (None, gap));
        payload.grow(PayloadGrowth { had_gap: true, ..grown(1, 2) });
        assert_eq!((payload.bytes(), payload.gap()), (Some(PerDirection { egress: 8, ingress: 9 }), None));
    }

    #[test]
    fn reasons_have_names() {
        assert!(PayloadGap::ALL.into_iter().all(|gap| PayloadGap::of_name(gap.name()) == Some(gap)));
    }
}
