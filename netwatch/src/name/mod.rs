//! Names of remotes, from samples of packets: the name of the server, how it is known, and the DNS
//! lookups. Plain data in and out; the time of a sample is the only clock. Packets are parsed in
//! [`crate::wire`], and nothing is counted here, because samples may be missing.

mod datagrams;
mod direction_reader;
mod dns;
mod event;
mod exchanges;
mod facts;
mod flow_reader;
mod flows;
mod hidden;
mod hosts;
mod limits;
mod names;
mod resolvers;
mod sample;
mod stream;
mod tunnelled;
mod usage;

pub use dns::{Lookup, NewResponses, QueryFlows, RESPONSE_TIMEOUT_NS, ResponseTimes};
pub use exchanges::ServiceExchanges;
pub use facts::{FlowFacts, NameSource, ProvenApplication, RequestLine, SourcedName};
pub use hidden::Hidden;
pub use hosts::Hosts;
pub use limits::{NameLimits, NamesLost};
pub use names::{BestName, Names};
pub use sample::{NameSample, Segment};
pub use usage::{Contact, LookupUsage};

#[cfg(test)]
mod tests;
