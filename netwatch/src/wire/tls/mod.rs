//! The unencrypted part of TLS (RFC 8446) and DTLS (RFC 9147): the hello messages. The parsers work
//! on partial messages, which the crates that parse TLS do not: the server name can be read from a
//! ClientHello of which only the first bytes were sampled.

mod client_hello;
pub mod dtls;
mod ech;
mod hello;
mod ja4;
mod message;
mod server_hello;
mod version;

pub use client_hello::{Carrier, ClientHello};
pub use ech::{Ech, EchConfig};
pub use hello::Hello;
pub use ja4::Ja4;
pub use message::{HelloMessage, first_message, looks_like_records, may_begin_client_hello};
pub use server_hello::ServerHello;
pub use version::TlsVersion;

/// Whether this is a GREASE value. Clients send such values so that servers continue to accept
/// unknown ones (RFC 8701).
pub(super) fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

#[cfg(test)]
mod tests;
