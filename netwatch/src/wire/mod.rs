//! What packets carry, read from their bytes alone. Any bytes give an answer and none a panic; what is cut off is read as far as it goes.
//! Not: who sent it, when, and what came before in the same flow. That is [`crate::name`]'s.

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
