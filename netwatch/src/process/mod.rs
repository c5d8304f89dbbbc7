//! The processes that used a flow, the evidence for it, and attempts that failed, as plain data.
//! Follows processes and sockets through the kernel's events; reads neither the kernel nor /proc.

mod attempt;
mod command_line;
mod event;
mod interpreter;
mod model;
mod program;
mod trace;

pub use attempt::{Attempt, AttemptCause, AttemptTarget};
pub use command_line::program_of_command;
pub use event::{
    CallName, CallTarget, ClosedSocket, FailedCall, Image, Origin, ProcessAction, ProcessEvent, SocketOperation,
    SocketUse, ThreadName,
};
pub use model::{
    Attribution, Evidence, FlowUser, FlowUsers, LocalCalls, LocalSocket, Process, ProcessId, ProcessLosses,
    ProcessNumber, Processes,
};
pub use program::file_name;
pub use trace::{
    FlowToAttribute, LiveProcess, PacketCoverage, ReportedFlows, SystemView, Trace, TraceOutcome, TraceResult, Usage,
    Usages,
};
