//! Scratch memory: the state of one packet while it is counted. It passes the state from one
//! program to the next in the chain.

use netwatch_common::hash::Words;
use netwatch_common::observation::Observation;

/// Scratch memories of each CPU: the maximum number of packets in progress on one CPU where packets
/// preempt each other.
pub const SCRATCH_PER_CPU: u32 = 4;

/// The state of one packet.
#[repr(C)]
pub struct Scratch {
    /// Where packets preempt each other: the address of the packet's socket buffer; 0 while this
    /// memory is free.
    pub owner: u64,
    /// Where the packet was observed: a [`Hook`](netwatch_common::parse::Hook).
    pub hook: u32,
    /// The reason to sample the packet: one of `netwatch_common::sample::reason`.
    pub reason: u32,
    /// Used by [`Skb::forget`](netwatch_common::parse::Frame::forget).
    pub word: u64,
    /// The words of the flow's key.
    pub words: Words,
    /// The hash of the flow's key.
    pub hash: u64,
    /// The number of the flow's entry.
    pub number: u32,
    /// The notification of user space: one of `netwatch_common::account::notify`.
    pub notification: u32,
    /// Result of `crate::epoch` for this packet: one of [`next_epoch`]. The long path resets it.
    pub next_epoch: u32,
    zero: u32,
    pub seen: Observation,
}

/// What happened to the entry of a packet that begins another connection. Values of
/// [`Scratch::next_epoch`].
pub mod next_epoch {
    /// Nothing.
    pub const NONE: u32 = 0;
    /// The connection has an entry.
    pub const ADDED: u32 = 1;
    /// There was no room for an entry.
    pub const NO_ROOM: u32 = 2;
}
