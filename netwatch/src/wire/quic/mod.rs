//! QUIC (RFC 9000, RFC 9369), its drafts, and its predecessor by Google: the client's first
//! packets. Their keys can be derived by every observer: they protect against modification, not
//! against reading.

mod client;
mod frames;
mod google;
mod keys;
mod packet;
mod version;

pub use client::{QuicHandshake, QuicObservation};
pub use version::QuicVersion;

/// The version, if this datagram is QUIC: it has a long header of a known version with consistent
/// lengths, or a header of Google's with a version.
pub fn looks_like(datagram: &[u8]) -> Option<QuicVersion> {
    packet::first_version(datagram).or_else(|| google::version(datagram))
}

#[cfg(test)]
mod tests;
