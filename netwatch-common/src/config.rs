//! What user space decides before the classifier is loaded. Read-only data of the program, so that the verifier sees
//! constants and drops what is switched off.

/// Settings of the classifier.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// At most so many packets with payload are sampled per flow and direction.
    pub sample_packets: u32,
    /// No more of them are sampled once so many payload bytes were, per flow and direction.
    pub sample_bytes: u32,
    /// 1: every DNS packet and every ICMP error is sampled; 0: none.
    pub sample_protocols: u32,
    /// 1: new flows are announced on the ring of events; 0: they are not.
    pub announce: u32,
}

impl Config {
    /// Enough for a ClientHello of 4 KiB in any usual segmentation and for QUIC's Initial packets.
    pub const DEFAULT: Self = Self { sample_packets: 32, sample_bytes: 8192, sample_protocols: 1, announce: 1 };
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

const _: () = assert!(size_of::<Config>() == 16);
