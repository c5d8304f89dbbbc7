//! Name resolution for the target: the host's resolver settings, and the forwarder on the gateway
//! that queries the host's resolvers. The forwarder neither interprets responses (names of flows
//! come from packet samples) nor caches them.

mod exchange;
pub mod forwarder;
mod in_flight;
pub mod message;
pub mod probe;
pub mod resolv_conf;
mod resolve;
pub mod resolver;
pub mod reverse;
mod socket;
mod sockets;
pub mod stats;
mod tcp;
mod udp;
pub mod upstream;

#[cfg(test)]
mod tests;
