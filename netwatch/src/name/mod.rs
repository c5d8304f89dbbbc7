//! Names of remotes, from samples of packets: who was meant, how that is known, and what was asked of DNS. Plain data in and out; a sample's
//! time is the only clock. Not: how packets are read, which is [`crate::wire`]'s, nor any counting: samples may be missing.

mod datagrams;
mod dns;
mod event;
mod facts;
mod flow;
mod flows;
mod hidden;
mod hosts;
mod limits;
mod names;
mod resolvers;
mod sample;
mod side;
mod stream;
mod tunnelled;
mod usage;

pub use dns::{Lookup, ResponseTimes};
pub use facts::{FlowFacts, Named, Proven, RequestLine, Source};
pub use hidden::Hidden;
pub use hosts::Hosts;
pub use limits::{Limits, Lost};
pub use names::{Best, Names};
pub use sample::{NameSample, Segment};
pub use usage::{Contact, Usage};

#[cfg(test)]
mod tests;
