//! The labels of the series of traffic, and their values.

use crate::flow::{EndpointKey, Protocol};
use crate::report::registered_service;
use crate::session::FlowRecord;

/// Bytes of the longest value; longer ones are cut.
const MAX_VALUE_BYTES: usize = 128;
/// The value for what is not known.
const UNKNOWN: &str = "unknown";

/// A label of the series of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetricLabel {
    /// The program that uses the connection.
    Process,
    /// The application protocol, or the service registered for the port.
    Service,
    /// The transport protocol.
    Protocol,
    /// The name of the remote, or its address without one.
    Name,
    /// The address of the remote.
    Address,
    /// The port of the server.
    Port,
}

impl MetricLabel {
    /// The labels that are bounded by what the command is, not by what it talks to.
    pub const DEFAULT: [Self; 3] = [Self::Process, Self::Service, Self::Protocol];

    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Service => "service",
            Self::Protocol => "protocol",
            Self::Name => "name",
            Self::Address => "address",
            Self::Port => "port",
        }
    }

    /// Its value for a flow that this program uses.
    pub(super) fn value(self, record: &FlowRecord, program: Option<&str>) -> Box<str> {
        let flow = &record.flow;
        let key = || EndpointKey::of(&flow.key, flow.opened_by);
        let address = || flow.key.remote.addr.to_string();
        match self {
            Self::Process => program.map_or(UNKNOWN.into(), cut),
            Self::Service => service(record, &key()),
            Self::Protocol => Protocol(flow.key.protocol).to_string().into(),
            Self::Name => {
                let naming = record.naming.as_ref().and_then(|naming| naming.display_name.as_ref());
                naming.map_or_else(|| address().into(), |display| cut(display.name.as_str()))
            }
            Self::Address => address().into(),
            Self::Port => key().port.to_string().into(),
        }
    }
}

fn service(record: &FlowRecord, key: &EndpointKey) -> Box<str> {
    let proven = record.naming.as_ref().and_then(|naming| naming.application.as_ref());
    match proven {
        Some(application) => cut(&application.name),
        None => registered_service(key).map_or(UNKNOWN.into(), |service| cut(&service.name)),
    }
}

fn cut(value: &str) -> Box<str> {
    value[..value.floor_char_boundary(MAX_VALUE_BYTES)].into()
}
