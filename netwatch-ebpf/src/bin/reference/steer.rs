//! The settings of the program `driver`, which the bench writes and the program reads. Both include
//! this file.

/// How `driver` changes the frame. Only the bench writes the fields, except `next` and `sequence`,
/// which `driver` updates on the one CPU that it runs on.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Steer {
    /// The flow of the next packet.
    pub next: u64,
    /// Number of flows, which take turns.
    pub flows: u64,
    /// Added to the number of the flow, so that a later series can consist of other flows.
    pub first: u64,
    /// Offset of the source port in the frame.
    pub port_at: u32,
    /// Offset of the last two bytes of the source address.
    pub address_at: u32,
    /// Offset of the TCP sequence number.
    pub sequence_at: u32,
    /// Added to the sequence number when all flows had a turn; 0 if the frame has none.
    pub payload: u32,
    /// The sequence number of the next packet.
    pub sequence: u32,
    /// Makes the size a multiple of 8 bytes.
    pub zero: u32,
}
