//! Options records: what the exporter sent and dropped, what was measured and lost, and that every
//! packet is counted.

use super::EncodedRecord;
use super::element::{TemplateField, encode_template};

/// exportingProcessId
const EXPORTER_SCOPE: TemplateField = TemplateField::of(144, 4);
/// observationDomainId
const DOMAIN_SCOPE: TemplateField = TemplateField::of(149, 4);
/// selectorId
const SELECTOR_SCOPE: TemplateField = TemplateField::of(302, 8);

/// exportedMessageTotalCount, exportedFlowRecordTotalCount, notSentFlowTotalCount,
/// notSentPacketTotalCount, notSentOctetTotalCount
const EXPORTER_FIELDS: [TemplateField; 6] = [
    EXPORTER_SCOPE,
    TemplateField::of(41, 8),
    TemplateField::of(42, 8),
    TemplateField::of(166, 8),
    TemplateField::of(167, 8),
    TemplateField::of(168, 8),
];

/// countedFrames, countedOctets, interfaceFrames, interfaceOctets, balanceState, lostObservations,
/// remainderPackets, remainderOctets, untrackedFlows, untrackedPackets, untrackedOctets
const MEASUREMENT_FIELDS: [TemplateField; 12] = [
    DOMAIN_SCOPE,
    TemplateField::own(10, 8),
    TemplateField::own(11, 8),
    TemplateField::own(12, 8),
    TemplateField::own(13, 8),
    TemplateField::own(14, 1),
    TemplateField::own(15, 8),
    TemplateField::own(16, 8),
    TemplateField::own(17, 8),
    TemplateField::own(18, 8),
    TemplateField::own(19, 8),
    TemplateField::own(20, 8),
];

/// selectorAlgorithm, samplingPacketInterval, samplingPacketSpace
const SAMPLING_FIELDS: [TemplateField; 4] =
    [SELECTOR_SCOPE, TemplateField::of(304, 2), TemplateField::of(305, 4), TemplateField::of(306, 4)];

const EXPORTER: u16 = 258;
const MEASUREMENT: u16 = 259;
const SAMPLING: u16 = 260;

/// What the exporter has done so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ExporterRecord {
    /// Messages that were sent.
    pub messages: u64,
    /// Flow records that were sent.
    pub flows: u64,
    /// Flow records that were dropped.
    pub unsent_flows: u64,
    /// Packets of the flows that were dropped.
    pub unsent_packets: u64,
    /// Octets of these flows, from the IP header on.
    pub unsent_octets: u64,
}

/// What was measured so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MeasurementRecord {
    /// Socket buffers and bytes that netwatch counted, both directions; 0 before the end.
    pub counted: (u64, u64),
    /// The same, as the interface counted them.
    pub interface: (u64, u64),
    /// 0: pending or unknown, 1: every packet is accounted for, 2: the sums differ.
    pub balance_state: u8,
    /// Lost observations.
    pub lost: u64,
    /// Packets in no flow, and their bytes on the wire.
    pub remainders: (u64, u64),
    /// Flows that are not tracked individually: number, packets, bytes on the wire.
    pub untracked: (u64, u64, u64),
}

/// The templates of these records.
pub(super) fn templates() -> [Vec<u8>; 3] {
    let encode = |id, fields: &[TemplateField]| encode_template(id, Some(1), fields.iter().copied());
    [encode(EXPORTER, &EXPORTER_FIELDS), encode(MEASUREMENT, &MEASUREMENT_FIELDS), encode(SAMPLING, &SAMPLING_FIELDS)]
}

/// Encodes what the exporter has done.
pub fn encode_exporter(exporter: u32, record: &ExporterRecord) -> EncodedRecord {
    let ExporterRecord { messages, flows, unsent_flows, unsent_packets, unsent_octets } = *record;
    let mut bytes = exporter.to_be_bytes().to_vec();
    bytes.extend([messages, flows, unsent_flows, unsent_packets, unsent_octets].into_iter().flat_map(u64::to_be_bytes));
    EncodedRecord { set: EXPORTER, bytes }
}

/// Encodes what was measured.
pub fn encode_measurement(domain: u32, record: &MeasurementRecord) -> EncodedRecord {
    let MeasurementRecord { counted, interface, balance_state, lost, remainders, untracked } = *record;
    let mut bytes = domain.to_be_bytes().to_vec();
    bytes.extend([counted.0, counted.1, interface.0, interface.1].into_iter().flat_map(u64::to_be_bytes));
    bytes.push(balance_state);
    let rest = [lost, remainders.0, remainders.1, untracked.0, untracked.1, untracked.2];
    bytes.extend(rest.into_iter().flat_map(u64::to_be_bytes));
    EncodedRecord { set: MEASUREMENT, bytes }
}

/// Encodes that every packet is selected: one of one, by systematic count-based sampling.
pub fn encode_sampling() -> EncodedRecord {
    const SELECTOR: u64 = 1;
    const COUNT_BASED: u16 = 1;
    let mut bytes = SELECTOR.to_be_bytes().to_vec();
    bytes.extend(COUNT_BASED.to_be_bytes());
    bytes.extend([1_u32, 0].into_iter().flat_map(u32::to_be_bytes));
    EncodedRecord { set: SAMPLING, bytes }
}
