//! Name resolution for the namespace: the host's resolver settings, and the forwarder on the gateway that asks the host's
//! own resolvers. Not: what the answers mean (names of flows come from packet samples), and not a cache.

mod ask;
mod exchange;
pub mod forwarder;
mod in_flight;
pub mod message;
pub mod resolv_conf;
pub mod reverse;
mod socket;
pub mod stats;
mod tcp;
mod udp;
pub mod upstream;

#[cfg(test)]
mod tests;
