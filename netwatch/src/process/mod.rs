//! Who used a flow: processes, how each is known to be the one, and what they tried in vain. Plain data.

mod attempt;
mod event;
mod model;
mod trace;

pub use attempt::{Attempt, Cause, Target};
pub use event::{Call, CallName, CallTarget, Closed, Event, Image, Origin, Socket, Step, What};
pub use model::{
    Attribution, Evidence, LocalCalls, Lost, Process, ProcessId, ProcessNumber, Processes, UnixPeer, User, Users,
};
pub use trace::{
    Flow as FlowToAttribute, Found, Look, Reported, Result as Attributed, Silence, Trace, TraceOutcome, Usage,
};
