//! Elements of the STAGES map: programs that other programs continue in by a tail call. Small
//! programs that are chained are verified once each; one large program would be verified along
//! every combination of its parts.

/// Long path: parses and counts what the entry points do not handle.
pub const LONG_PATH: u32 = 0;
/// Copies the head of a packet that was counted.
pub const SAMPLE: u32 = 1;
/// Middle path: counts a packet of a flow that has an entry but no slot in the front.
pub const MIDDLE_PATH: u32 = 2;
/// Where packets preempt each other: allocates scratch memory for a packet, then continues with the
/// long path. The number of the hook that observed the packet is added.
pub const PREEMPTIBLE: u32 = 3;
/// Adds an entry for the next connection on a five-tuple, then continues with the long path.
pub const NEXT_EPOCH: u32 = 6;
/// Number of elements.
pub const COUNT: u32 = 7;
/// The program's name for each element.
pub const NAMES: [&str; COUNT as usize] = [
    "long_path",
    "sample",
    "middle_path",
    "egress_preemptible",
    "ingress_preemptible",
    "loopback_preemptible",
    "next_epoch",
];

/// Return values of the program `flush`. Never 0, which the kernel returns for a program that it
/// did not run.
pub mod flushed {
    /// The slots are merged.
    pub const DONE: u32 = 1;
    /// A packet is being counted on that CPU: try again.
    pub const BUSY: u32 = 2;
    /// There is no such CPU.
    pub const NO_CPU: u32 = 3;
}
