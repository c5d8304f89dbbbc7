//! What a meter delivers to a session besides counts.

use crate::flow::{FlowKey, QuotedError};
use crate::name::NameSample;
use crate::process::{self, SystemView};

/// An observation of a meter.
pub enum Observed<'a> {
    /// A packet of a flow belongs to the socket with this cookie.
    Socket {
        /// The flow.
        flow: FlowKey,
        /// The kernel's number of the socket.
        cookie: u64,
    },
    /// The head of a packet that may carry a name.
    Name(NameSample<'a>),
    /// An ICMP error that quotes a packet of a flow.
    IcmpError(QuotedError),
    /// A process or socket event, and access to what the machine shows at this moment.
    Process(process::ProcessEvent, &'a mut dyn SystemView),
}
