//! What user space decides before the classifier is loaded. Read-only data of the program, so that the verifier sees
//! constants and drops what is switched off.

/// Settings of the classifier.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// What may be sampled of the first packets with payload of a flow and direction: each takes its
    /// [`charge`](crate::sample::charge) from it while there is something left.
    pub sample_budget: u32,
    /// 1: every DNS packet and every ICMP error is sampled; 0: none.
    pub sample_protocols: u32,
    /// 1: new flows are announced on the ring of events; 0: they are not.
    pub announce: u32,
    /// One packet in so many is sampled, whatever it is; 0: none for this reason.
    pub sample_interval: u32,
    /// At most so many bytes of those are taken.
    pub snaplen: u32,
    /// 1: packets of a known flow are counted in the CPU's own front, which needs a kernel whose softirqs cannot be preempted; 0: every packet
    /// goes to the shared table, and packets may preempt each other.
    pub front: u32,
    /// Number of buckets of the flow table minus one.
    pub bucket_mask: u32,
    /// Size of the FREE ring minus one.
    pub free_mask: u32,
}

impl Config {
    /// Samples enough for a ClientHello of 4 KiB in any usual segmentation and for QUIC's Initial packets.
    pub const DEFAULT: Self = Self {
        sample_budget: 8192,
        sample_protocols: 1,
        announce: 1,
        sample_interval: 0,
        snaplen: 192,
        front: 1,
        bucket_mask: 0,
        free_mask: 0,
    };
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

const _: () = assert!(size_of::<Config>() == 32);
