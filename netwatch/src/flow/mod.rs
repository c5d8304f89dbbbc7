//! What was counted, as plain data: no kernel types, no clock, no I/O.

mod counters;
mod increment;
mod key;

pub use counters::{Counters, PerDirection};
pub use increment::{Increment, Lost, TcpFacts};
pub use key::{Direction, End, FlowKey, Housekeeping, Malformed, Scope, Traffic};
