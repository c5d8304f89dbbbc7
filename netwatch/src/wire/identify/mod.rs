//! Identifies protocols by their first bytes. A port is not evidence; where bytes could have this
//! form by chance, no protocol is identified.

mod datagram;
mod rtp;
mod stream;

pub use datagram::datagram;
pub use rtp::Rtp;
pub use stream::{Greeting, Identification, stream};

/// The ports of a packet. A few protocols are identified only if both content and port match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The sender's port.
    pub source: u16,
    /// The receiver's port.
    pub destination: u16,
}

impl Ports {
    /// Whether one of the two is this port.
    pub fn has(self, port: u16) -> bool {
        self.source == port || self.destination == port
    }
}
