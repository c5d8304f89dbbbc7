//! The proxy of `--host-loopback`: ports of the namespace's loopback lead to the same ports of the
//! host's. Its sockets are bound in the namespace before the command starts, and it connects from
//! the host's namespace, in a thread of its own. So no packet with a loopback address crosses the
//! link, and the host's firewall and routes stay as they are.
//!
//! What it passes on is bounded: connections wait in the backlog of their socket when there are too
//! many, a datagram that does not fit is dropped, and both are counted.

mod bind;
mod choose;
mod counts;
mod tcp;
#[cfg(test)]
mod tests;
mod thread;
mod udp;

pub use bind::LoopbackSockets;
pub use choose::{ChoiceInput, ServiceChoice, choose};
pub use counts::LoopbackCounts;
pub use thread::RunningProxy;
