//! The labels of the series of traffic, and their values.

use crate::flow::{EndpointKey, Protocol};
use crate::format::exposition::printable;
use crate::report::{DnsForwarder, Interface, registered_service};
use crate::session::FlowRecord;

/// Bytes of the longest value; longer ones are cut.
const MAX_VALUE_BYTES: usize = 128;
/// The value for what is not known.
const UNKNOWN: &str = "unknown";
/// The value of every label of the series of all others.
pub(super) const OTHER: &str = "other";
/// The value for a program, service or name that is called [`OTHER`].
const NAMED_OTHER: &str = "(other)";

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

    /// Its value for a flow that this program uses in a run with this interface.
    pub(super) fn value(self, record: &FlowRecord, program: Option<&str>, interface: &Interface) -> Box<str> {
        let flow = &record.flow;
        let key = || EndpointKey::of(&flow.key, flow.opened_by);
        let address = || flow.key.remote.addr.to_string();
        match self {
            Self::Process => program.map_or(UNKNOWN.into(), label_value),
            Self::Service => service(record, &key()),
            Self::Protocol => Protocol(flow.key.protocol).to_string().into(),
            Self::Name => {
                let naming = record.naming.as_ref().and_then(|naming| naming.display_name.as_ref());
                match naming {
                    Some(display) => label_value(display.name.as_str()),
                    None if interface.is_dns_forwarder(&key()) => DnsForwarder::NAME.into(),
                    None => address().into(),
                }
            }
            Self::Address => address().into(),
            Self::Port => key().port.to_string().into(),
        }
    }
}

fn service(record: &FlowRecord, key: &EndpointKey) -> Box<str> {
    let proven = record.naming.as_ref().and_then(|naming| naming.application.as_ref());
    match proven {
        Some(application) => label_value(&application.name),
        None => registered_service(key).map_or(UNKNOWN.into(), |guess| label_value(&format!("{}?", guess.name))),
    }
}

/// The text as a value, which differs from that of the series of all others. Texts that would look
/// alike in the output have the same value.
fn label_value(text: &str) -> Box<str> {
    if text == OTHER {
        return NAMED_OTHER.into();
    }
    let value = printable(text);
    value[..value.floor_char_boundary(MAX_VALUE_BYTES)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_output_and_none_is_that_of_all_others() {
        assert_eq!(&*label_value("other"), "(other)");
        assert_eq!(label_value("a\u{1}b"), label_value("a\u{2}b"));
        assert_eq!(&*label_value("a\u{1}b"), "a\u{fffd}b");
        assert_eq!(label_value(&"\u{1}".repeat(100)).len(), 126);
        assert_eq!(&*label_value("a\"b\\c"), "a\"b\\c");
    }
}
