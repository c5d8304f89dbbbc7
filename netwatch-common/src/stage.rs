//! Elements of the STAGES map: programs in which others continue by a tail call. Small programs that continue in each other
//! are verified once each; one large program would be verified along every combination of its parts.

/// Parses and counts what the entry points leave to it.
pub const ACCOUNT: u32 = 0;
/// Copies the head of a packet that was counted.
pub const SAMPLE: u32 = 1;
/// Counts a packet of a busy flow that has no slot of the front.
pub const KNOWN: u32 = 2;
/// Where packets preempt each other: finds working memory for one that was seen at the hook whose number is added, then counts it.
pub const AMID: u32 = 3;
/// How many there are.
pub const COUNT: u32 = 6;
/// The program's name for each.
pub const NAMES: [&str; COUNT as usize] =
    ["account", "sample", "known", "amid_egress", "amid_ingress", "amid_loopback"];

/// What the program `flush` answers. Never 0, which the kernel gives for a program that it did not run.
pub mod flushed {
    /// It is done.
    pub const DONE: u32 = 1;
    /// A packet is being counted on that CPU: ask again.
    pub const BUSY: u32 = 2;
    /// There is no such CPU.
    pub const NONE: u32 = 3;
}
