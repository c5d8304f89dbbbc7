//! QUIC (RFC 9000, RFC 9369), its drafts, and what Google had before: the client's first packets, whose keys anybody can derive. They keep
//! mere bystanders of the network from changing them, not from reading.

mod client;
mod frames;
mod google;
mod keys;
mod packet;
mod version;

pub use client::{QuicHandshake, QuicObservation};
pub use version::QuicVersion;

/// Is this datagram QUIC? Long headers of a version that is known, whose parts fit in; or one of Google's with a version in it.
pub fn looks_like(datagram: &[u8]) -> Option<QuicVersion> {
    packet::first_version(datagram).or_else(|| google::version(datagram))
}

#[cfg(test)]
mod tests;
