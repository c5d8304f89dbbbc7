//! Names, protocols and DNS in JSON's shape.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::format::rfc3339;
use crate::name::{self, Lookup, ResponseTimes, SourcedName};
use crate::report::{self, ApplicationProtocol, DisplayName, Naming, Report};

#[derive(Serialize)]
pub(super) struct Name<'a> {
    name: &'a str,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<&'a str>,
    first_seen: String,
}

#[derive(Serialize)]
pub(super) struct Application<'a> {
    name: &'a str,
    evidence: &'a str,
}

#[derive(Serialize)]
pub(super) struct Tls<'a> {
    offered_version: &'a str,
    alpn: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    ja4: Option<&'a str>,
    post_quantum: bool,
}

/// What is known of a flow or an endpoint, beside its counters.
#[derive(Serialize, Default)]
pub(super) struct Known<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_source: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<Name<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<Application<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hidden: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls<'a>>,
}

#[derive(Serialize)]
pub(super) struct Dns<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resolvers: Option<&'a [SocketAddr]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lookups: Option<Vec<JsonLookup<'a>>>,
    unused: Vec<&'a str>,
    contacted_without_lookup: &'a [IpAddr],
}

#[derive(Serialize)]
pub(super) struct JsonLookup<'a> {
    name: &'a str,
    r#type: String,
    protocol: &'static str,
    direction: &'static str,
    asked: u64,
    answered: u64,
    unanswered: u64,
    outcomes: BTreeMap<String, u64>,
    truncated: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Response>,
    first_seen: String,
    addresses: &'a [IpAddr],
    aliases: Vec<&'a str>,
}

#[derive(Serialize)]
struct Response {
    count: u64,
    min_ns: u64,
    mean_ns: u64,
    max_ns: u64,
}

#[derive(Serialize)]
struct FlowShare {
    flows: u64,
    wire_bytes: u64,
}

#[derive(Serialize)]
pub(super) struct JsonNaming {
    flows: FlowShare,
    unnamed: FlowShare,
    hidden: BTreeMap<&'static str, FlowShare>,
    lost: name::NamesLost,
}

impl<'a> Known<'a> {
    pub(super) fn of_flow(known: &'a report::ReportFlow) -> Self {
        let Some(naming) = &known.naming else { return Self::default() };
        Self {
            hidden: naming.hidden.iter().map(|why| why.name()).collect(),
            tls: naming.tls.as_ref().map(Tls::from),
            ..Self::new(naming.display_name.as_ref(), &naming.names, naming.application.as_ref())
        }
    }

    pub(super) fn of_endpoint(known: &'a report::ReportEndpoint) -> Self {
        Self::new(known.display_name.as_ref(), &known.names, known.application.as_ref())
    }

    fn new(
        shown: Option<&'a DisplayName>,
        names: &'a [SourcedName],
        application: Option<&'a ApplicationProtocol>,
    ) -> Self {
        Self {
            name: shown.map(|shown| shown.name.as_str()),
            name_source: shown.map(|shown| shown.source.name()),
            names: names.iter().map(Name::from).collect(),
            application: application
                .map(|application| Application { name: &application.name, evidence: &application.evidence }),
            ..Self::default()
        }
    }
}

impl<'a> From<&'a SourcedName> for Name<'a> {
    fn from(named: &'a SourcedName) -> Self {
        Self {
            name: named.name.as_str(),
            source: named.source.name(),
            question: named.question.as_ref().map(|question| question.as_str()),
            first_seen: rfc3339(named.first_seen_ns),
        }
    }
}

impl<'a> From<&'a report::TlsFacts> for Tls<'a> {
    fn from(tls: &'a report::TlsFacts) -> Self {
        let report::TlsFacts { offered_version, alpn, ja4, post_quantum } = tls;
        Self { offered_version, alpn, ja4: ja4.as_deref(), post_quantum: *post_quantum }
    }
}

impl<'a> From<&'a Report> for Dns<'a> {
    fn from(report: &'a Report) -> Self {
        Self {
            resolvers: report.replay.is_none().then_some(&report.dns.resolvers),
            lookups: Some(lookups(report).collect()),
            unused: report.naming.unused.iter().map(|name| name.as_str()).collect(),
            contacted_without_lookup: &report.naming.contacted_without_lookup,
        }
    }
}

impl Dns<'_> {
    pub(super) fn without_lookups(self) -> Self {
        Self { lookups: None, ..self }
    }
}

/// Each question of DNS.
pub(super) fn lookups<'a>(report: &'a Report) -> impl Iterator<Item = JsonLookup<'a>> + use<'a> {
    report.naming.lookups.iter().map(JsonLookup::from)
}

impl<'a> From<&'a Lookup> for JsonLookup<'a> {
    fn from(lookup: &'a Lookup) -> Self {
        Self {
            name: lookup.question.name.as_str(),
            r#type: lookup.question.kind.to_string(),
            protocol: lookup.application.name(),
            direction: lookup.queried_by.of_flow(),
            asked: lookup.queries,
            answered: lookup.responses,
            unanswered: lookup.unanswered(),
            outcomes: outcomes(lookup),
            truncated: lookup.truncated,
            response: response(&lookup.response_times),
            first_seen: rfc3339(lookup.first_seen_ns),
            addresses: &lookup.addresses,
            aliases: lookup.aliases.iter().map(|alias| alias.as_str()).collect(),
        }
    }
}

/// By response code in lower case: `noerror`, `nxdomain`.
fn outcomes(lookup: &Lookup) -> BTreeMap<String, u64> {
    lookup.outcomes.iter().map(|(rcode, count)| (rcode.to_string().to_ascii_lowercase(), *count)).collect()
}

fn response(times: &ResponseTimes) -> Option<Response> {
    let mean_ns = times.mean_ns()?;
    Some(Response { count: times.count, min_ns: times.min_ns, mean_ns, max_ns: times.max_ns })
}

impl From<report::FlowShare> for FlowShare {
    fn from(report::FlowShare { flows, wire_bytes }: report::FlowShare) -> Self {
        Self { flows, wire_bytes }
    }
}

impl From<&Naming> for JsonNaming {
    fn from(naming: &Naming) -> Self {
        Self {
            flows: naming.flows.into(),
            unnamed: naming.unnamed.into(),
            hidden: naming.hidden.iter().map(|(why, share)| (why.name(), (*share).into())).collect(),
            lost: naming.lost,
        }
    }
}
