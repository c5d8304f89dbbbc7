//! Which protocol first bytes prove. A port is no proof; where a shape alone would be met by chance, nothing is said.

mod datagram;
mod rtp;
mod stream;

pub use datagram::datagram;
pub use rtp::Rtp;
pub use stream::{Greeting, Identification, stream};

/// Ports on which a shape that is a little weak counts: both have to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The sender's.
    pub source: u16,
    /// The receiver's.
    pub destination: u16,
}

impl Ports {
    /// Is one of the ends at this port?
    pub fn has(self, port: u16) -> bool {
        self.source == port || self.destination == port
    }
}
