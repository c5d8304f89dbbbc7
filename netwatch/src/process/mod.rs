//! Who used a flow: processes, how each is known to be the one, and what they tried in vain. Plain data.

mod attempt;
mod event;
mod model;
mod trace;

pub use attempt::{Attempt, AttemptCause, AttemptTarget};
pub use event::{
    CallName, CallTarget, ClosedSocket, FailedCall, Image, Origin, ProcessAction, ProcessEvent, SocketOperation,
    SocketUse,
};
pub use model::{
    Attribution, Evidence, FlowUser, FlowUsers, LocalCalls, LocalSocket, Process, ProcessId, ProcessLosses,
    ProcessNumber, Processes,
};
pub use trace::{
    FlowToAttribute, LiveProcess, PacketCoverage, ReportedFlows, SystemView, Trace, TraceOutcome, TraceResult, Usage,
};
