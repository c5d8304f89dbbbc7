//! Settings that user space writes before it loads the classifier. They are read-only data of the
//! object, so the verifier treats them as constants and removes the code of features that are off.

/// Defaults, each in this one place: the objects' maps, user space and the command line use them.
pub mod defaults {
    /// Flows with an entry of their own in the kernel's flow table.
    pub const MAX_FLOWS: u32 = 131_072;
    /// Size of the SAMPLES ring in bytes.
    pub const SAMPLE_RING_BYTES: u32 = 2 << 20;
    /// Size of the EVENTS ring in bytes.
    pub const EVENT_RING_BYTES: u32 = 256 << 10;
    /// Size of the PROCESSES ring in bytes. Fixed: the object determines it.
    pub const PROCESS_RING_BYTES: u32 = 512 << 10;
    /// Bytes copied of each packet that is sampled by the interval.
    pub const SNAPLEN: u32 = 192;
    /// Bytes that the samples of one direction of a flow may [charge](crate::sample::charge):
    /// enough for a ClientHello of 4 KiB in any usual segmentation, and for QUIC's Initial packets.
    pub const SAMPLE_BUDGET: u32 = 8192;
}

/// Settings of the classifier.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Sample budget of each direction of a flow, in bytes. A packet with payload is sampled while
    /// some of the budget is left, and [charges](crate::sample::charge) it.
    pub sample_budget: u32,
    /// 1: every DNS packet and every ICMP error is sampled; 0: they have no special treatment.
    pub sample_protocols: u32,
    /// 1: new flows are reported on the EVENTS ring; 0: they are not.
    pub notify: u32,
    /// One packet in this many is sampled on each CPU; 0: none is sampled for this reason.
    pub sample_interval: u32,
    /// Maximum number of bytes copied of a packet that is sampled by the interval.
    pub snaplen: u32,
    /// 1: packets of flows that have a slot are counted in the front of their CPU, which requires a
    /// kernel that does not preempt softirqs; 0: every packet is counted in the shared table, and
    /// packets may preempt each other.
    pub front: u32,
    /// Number of buckets of the flow table minus one.
    pub bucket_mask: u32,
    /// Size of the FREE ring minus one.
    pub free_mask: u32,
    /// Number of elements of the FRONTS map: CPUs below this number have a front.
    pub fronts: u32,
}

impl Config {
    /// The defaults. User space sets the masks, which depend on the size of the flow table, and the
    /// number of fronts.
    pub const DEFAULT: Self = Self {
        sample_budget: defaults::SAMPLE_BUDGET,
        sample_protocols: 1,
        notify: 1,
        sample_interval: 0,
        snaplen: defaults::SNAPLEN,
        front: 1,
        bucket_mask: 0,
        free_mask: 0,
        fronts: 0,
    };
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

const _: () = assert!(size_of::<Config>() == 36);
