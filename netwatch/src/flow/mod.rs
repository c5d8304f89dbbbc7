//! What was counted, as plain data: no kernel types, no clock, no I/O.

mod balance;
mod counters;
mod endpoint;
mod entry;
mod failed;
mod increment;
mod key;
mod protocol;
mod remainder;
mod table;

pub use balance::{Amount, Balance, Difference, FileBalance, InterfaceCounters, LinkCounters, State};
pub use counters::{Counters, PerDirection};
pub use endpoint::{Endpoint, EndpointKey, FIRST_EPHEMERAL_PORT, Remote};
pub use entry::{EndReason, Flow};
pub use failed::{Failed, IcmpError, Quoted};
pub use increment::{Increment, Lost, RoundTrips, TcpFacts};
pub use key::{Direction, End, FlowId, FlowKey, Housekeeping, Malformed, ObservationPoint, Traffic};
pub use protocol::Protocol;
pub use remainder::{RemainderKind, Remainders};
pub use table::{Applied, Change, DEFAULT_MAX_FLOWS, FlowTable, Folded, FoldedFlows, Place};
