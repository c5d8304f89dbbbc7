//! Counts as plain data: increments, the flow table, endpoints and the balance. Contains no kernel
//! types, no clock and no I/O.

mod balance;
mod bounds;
mod chunks;
mod counters;
mod endpoint;
mod entry;
mod failed;
mod histogram;
mod increment;
mod key;
mod payload;
mod protocol;
mod remainder;
mod table;

pub use balance::{Amount, Balance, BalanceState, Difference, FileBalance, InterfaceCounters, LinkCounters};
pub use bounds::CounterBounds;
pub use chunks::Chunks;
pub use counters::{Counters, PerDirection};
pub use endpoint::{Endpoint, EndpointKey, FIRST_EPHEMERAL_PORT, Remote, median};
pub use entry::{EndReason, Flow};
pub use failed::{FailedAttempts, IcmpError, QuotedError};
pub use histogram::TimeHistogram;
pub use increment::{Increment, ObservationLosses, RoundTripTimes, TcpFacts};
pub use key::{Direction, FlowId, FlowKey, Housekeeping, Malformed, ObservationPoint, Traffic, TransportAddress};
pub use payload::{Payload, PayloadGap, PayloadGrowth};
pub use protocol::Protocol;
pub use remainder::{RemainderKind, Remainders};
pub use table::{
    Applied, DEFAULT_IDLE_TIMEOUT, DEFAULT_MAX_FLOWS, FlowActivity, FlowChange, FlowState, FlowTable, FoldedCounts,
    FoldedFlows, Place, nanoseconds,
};
