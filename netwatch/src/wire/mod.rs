//! Parsers of what packets carry, from their bytes alone. No input makes them panic, and a message
//! that is cut off is parsed up to its last byte. They keep no state about flows: [`crate::name`]
//! tracks the sender of a packet, its time, and the packets before it.

mod alpn;
mod application;
mod assembly;
pub mod dns;
pub mod http1;
pub mod http2;
pub mod identify;
mod name;
pub mod port;
pub mod proxy_header;
pub mod quic;
mod reader;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;
pub mod tls;
pub mod tunnel;

pub use alpn::Alpn;
pub use application::Application;
pub use assembly::{Assembly, Full};
pub use name::Name;
use reader::ByteReader;
