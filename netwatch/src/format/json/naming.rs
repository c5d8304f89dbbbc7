//! Names, application protocols and DNS lookups as JSON objects.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::{Streamed, is_zero};
use crate::format::rfc3339;
use crate::name::{self, Lookup, ResponseTimes, SourcedName};
use crate::report::{self, ApplicationProtocol, DisplayName, FlowShare, Naming, Report};

/// Names and protocol of a flow or an endpoint.
#[derive(Serialize, Default)]
pub(super) struct JsonNames<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_source: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<JsonName<'a>>,
    #[serde(flatten)]
    application: JsonApplication<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hidden: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<JsonTls<'a>>,
}

/// The protocol of a flow, an endpoint or a service.
#[derive(Serialize, Default)]
pub(super) struct JsonApplication<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_evidence: Option<Cow<'a, str>>,
}

impl<'a> From<&'a ApplicationProtocol> for JsonApplication<'a> {
    fn from(known: &'a ApplicationProtocol) -> Self {
        let ApplicationProtocol { name, evidence } = known;
        Self { application: Some(name.as_ref().into()), application_evidence: Some(evidence.as_ref().into()) }
    }
}

impl From<ApplicationProtocol> for JsonApplication<'static> {
    fn from(ApplicationProtocol { name, evidence }: ApplicationProtocol) -> Self {
        Self { application: Some(name), application_evidence: Some(evidence) }
    }
}

#[derive(Serialize)]
struct JsonName<'a> {
    name: &'a str,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    queried_name: Option<&'a str>,
    first_seen: String,
}

#[derive(Serialize)]
struct JsonTls<'a> {
    offered_version: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    alpn: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    ja4: Option<&'a str>,
    #[serde(skip_serializing_if = "super::is_false")]
    post_quantum: bool,
}

#[derive(Serialize)]
pub(super) struct JsonDns<'a, L> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    resolvers: &'a [SocketAddr],
    #[serde(skip_serializing_if = "Option::is_none")]
    lookups: Option<L>,
    unused_names: Vec<&'a str>,
    contacted_without_lookup: &'a [IpAddr],
}

#[derive(Serialize)]
pub(super) struct JsonLookup<'a> {
    name: &'a str,
    r#type: String,
    protocol: &'static str,
    direction: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    queries: u64,
    #[serde(skip_serializing_if = "is_zero")]
    responses: u64,
    #[serde(skip_serializing_if = "is_zero")]
    unanswered: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    response_codes: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    truncated_responses: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_time: Option<JsonResponseTime>,
    first_seen: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    addresses: &'a [IpAddr],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<&'a str>,
}

#[derive(Serialize)]
struct JsonResponseTime {
    count: u64,
    min_ns: u64,
    mean_ns: u64,
    max_ns: u64,
}

#[derive(Serialize)]
struct JsonShare {
    #[serde(skip_serializing_if = "is_zero")]
    flows: u64,
    #[serde(skip_serializing_if = "is_zero")]
    wire_bytes: u64,
}

#[derive(Serialize)]
pub(super) struct JsonNaming {
    flows: JsonShare,
    unnamed: JsonShare,
    hidden: BTreeMap<&'static str, JsonShare>,
    lost: BTreeMap<&'static str, u64>,
}

impl<'a> JsonNames<'a> {
    /// Without the list of names if that only repeats the name: most of a large document is flows.
    pub(super) fn of_flow(known: &'a report::ReportFlow) -> Self {
        let Some(naming) = &known.naming else { return Self::default() };
        let display = naming.display_name.as_ref();
        let names = match (naming.names.as_slice(), display) {
            ([only], Some(display)) if repeats(only, display) => &[],
            (names, _) => names,
        };
        Self {
            hidden: naming.hidden.iter().map(|reason| reason.name()).collect(),
            tls: naming.tls.as_ref().map(JsonTls::from),
            ..Self::new(display, names, naming.application.as_ref())
        }
    }

    pub(super) fn of_endpoint(known: &'a report::ReportEndpoint) -> Self {
        Self::new(known.display_name.as_ref(), &known.names, known.application.as_ref())
    }

    fn new(
        display: Option<&'a DisplayName>,
        names: &'a [SourcedName],
        application: Option<&'a ApplicationProtocol>,
    ) -> Self {
        Self {
            name: display.map(|display| display.name.as_str()),
            name_source: display.map(|display| display.source.name()),
            names: names.iter().map(JsonName::from).collect(),
            application: application.map(JsonApplication::from).unwrap_or_default(),
            ..Self::default()
        }
    }
}

fn repeats(named: &SourcedName, display: &DisplayName) -> bool {
    named.question.is_none() && named.source == display.source && named.name == display.name
}

impl<'a> From<&'a SourcedName> for JsonName<'a> {
    fn from(named: &'a SourcedName) -> Self {
        Self {
            name: named.name.as_str(),
            source: named.source.name(),
            queried_name: named.question.as_ref().map(|question| question.as_str()),
            first_seen: rfc3339(named.first_seen_ns),
        }
    }
}

impl<'a> From<&'a report::TlsFacts> for JsonTls<'a> {
    fn from(tls: &'a report::TlsFacts) -> Self {
        let report::TlsFacts { offered_version, alpn, ja4, post_quantum } = tls;
        Self { offered_version, alpn, ja4: ja4.as_deref(), post_quantum: *post_quantum }
    }
}

/// DNS of a report, with its lookups where `with_lookups`.
pub(super) fn dns(report: &Report, with_lookups: bool) -> JsonDns<'_, impl Serialize + use<'_>> {
    JsonDns {
        resolvers: &report.dns.resolvers,
        lookups: with_lookups.then_some(Streamed(move || lookups(report))),
        unused_names: report.naming.unused.iter().map(|name| name.as_str()).collect(),
        contacted_without_lookup: &report.naming.contacted_without_lookup,
    }
}

/// DNS lookups, converted one at a time.
pub(super) fn lookups(report: &Report) -> impl Iterator<Item = JsonLookup<'_>> {
    report.naming.lookups.iter().map(JsonLookup::from)
}

impl<'a> From<&'a Lookup> for JsonLookup<'a> {
    fn from(lookup: &'a Lookup) -> Self {
        Self {
            name: lookup.question.name.as_str(),
            r#type: lookup.question.kind.to_string(),
            protocol: lookup.application.name(),
            direction: lookup.queried_by.of_flow(),
            queries: lookup.queries,
            responses: lookup.responses,
            unanswered: lookup.unanswered(),
            response_codes: response_codes(lookup),
            truncated_responses: lookup.truncated,
            response_time: response_time(&lookup.response_times),
            first_seen: rfc3339(lookup.first_seen_ns),
            addresses: &lookup.addresses,
            aliases: lookup.aliases.iter().map(|alias| alias.as_str()).collect(),
        }
    }
}

/// Number of responses by response code in lower case: `noerror`, `nxdomain`.
fn response_codes(lookup: &Lookup) -> BTreeMap<String, u64> {
    lookup.outcomes.iter().map(|(code, count)| (code.to_string().to_ascii_lowercase(), *count)).collect()
}

fn response_time(times: &ResponseTimes) -> Option<JsonResponseTime> {
    let mean_ns = times.mean_ns()?;
    Some(JsonResponseTime { count: times.count, min_ns: times.min_ns, mean_ns, max_ns: times.max_ns })
}

impl From<FlowShare> for JsonShare {
    fn from(FlowShare { flows, wire_bytes }: FlowShare) -> Self {
        Self { flows, wire_bytes }
    }
}

impl From<&Naming> for JsonNaming {
    fn from(naming: &Naming) -> Self {
        Self {
            flows: naming.flows.into(),
            unnamed: naming.unnamed.into(),
            hidden: naming.hidden.iter().map(|(reason, share)| (reason.name(), (*share).into())).collect(),
            lost: lost(&naming.lost),
        }
    }
}

/// Reasons with a number other than 0.
fn lost(lost: &name::NamesLost) -> BTreeMap<&'static str, u64> {
    let reasons = [
        ("direction_bytes", lost.direction_bytes),
        ("waiting_bytes", lost.waiting_bytes),
        ("open_flows", lost.open_flows),
        ("flows", lost.flows),
        ("addresses", lost.addresses),
        ("names", lost.names),
        ("lookups", lost.lookups),
        ("pending", lost.pending),
        ("records", lost.records),
        ("http2_broken", lost.http2_broken),
    ];
    reasons.into_iter().filter(|(_, number)| *number > 0).collect()
}
