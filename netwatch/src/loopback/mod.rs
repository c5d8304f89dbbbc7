//! The proxy of `--host-loopback`: ports of the namespace's loopback lead to the same ports of the
//! host's. Its sockets are bound in the namespace before the command starts, and it connects from
//! the host's namespace. It has its own thread. So no packet with a loopback address crosses the
//! link, and the host's firewall and routes stay as they are.
//!
//! Its memory is bounded: connections beyond the limit wait in the backlog of their socket, and a
//! datagram that does not fit is dropped and counted.

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
