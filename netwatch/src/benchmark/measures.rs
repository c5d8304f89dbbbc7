//! The numbers of one run.

use std::collections::BTreeMap;

use super::metric::{METRICS, percentile};
use crate::flow::{Direction, Remote};
use crate::report::{AddressRole, DnsForwarder, ExitStatus, Report, ReportEndpoint};
use crate::wire::port;

/// The numbers of one run: all that is kept of its report.
#[derive(Debug, Clone, PartialEq)]
pub struct RunMeasures {
    /// Its id, or the file name of a capture.
    pub id: String,
    /// The command; empty for a capture.
    pub command: Vec<String>,
    /// Its start, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// How the command exited; `None` for a capture.
    pub exit: Option<ExitStatus>,
    /// The values of [`METRICS`], in their order.
    pub values: Vec<Option<f64>>,
    /// The values of each endpoint, in the order of `ENDPOINT_METRICS`.
    pub(super) endpoints: BTreeMap<String, [Option<f64>; 3]>,
    /// What the report does not contain, a sentence each.
    pub gaps: Vec<String>,
}

impl RunMeasures {
    /// The numbers in a report.
    pub fn of(report: &Report) -> Self {
        let (id, started_ns) = match &report.replay {
            Some(replay) => (replay.file.clone(), replay.started_ns),
            None => (report.run.id.clone(), report.run.started_ns),
        };
        Self {
            id,
            command: report.run.command.clone(),
            started_ns,
            exit: report.run.exit,
            // An empty sum is -0.
            values: METRICS.iter().map(|(_, value)| value(report).map(|value| value + 0.0)).collect(),
            endpoints: endpoints(report),
            gaps: report.gaps(),
        }
    }
}

/// What one name, protocol and port has at all its addresses.
#[derive(Default)]
struct NameSum {
    bytes: f64,
    connections: f64,
    handshakes_ns: Vec<u64>,
}

/// The values of the endpoints. The connect time is that of all connections to all addresses; of a
/// run that folded flows, it is unknown.
fn endpoints(report: &Report) -> BTreeMap<String, [Option<f64>; 3]> {
    let is_complete = report.folded.flows == 0;
    let no_times = vec![Vec::new(); report.endpoints.len()];
    let handshakes = if is_complete { report.handshakes() } else { no_times };
    let mut sums: BTreeMap<String, NameSum> = BTreeMap::new();
    for (known, times) in report.endpoints.iter().zip(handshakes) {
        let sum = sums.entry(name(report, known)).or_default();
        sum.bytes += known.endpoint.counters.both().wire_bytes as f64;
        sum.connections += known.endpoint.connections as f64;
        sum.handshakes_ns.extend(times);
    }
    let values = |sum: NameSum| [Some(sum.bytes), Some(sum.connections), percentile(sum.handshakes_ns, 50)];
    sums.into_iter().map(|(name, sum)| (name, values(sum))).collect()
}

/// `app.example tcp/443`. The name of a remote stays the same where its address does not, and of a
/// service the port does. Every run has a gateway of its own.
fn name(report: &Report, known: &ReportEndpoint) -> String {
    let key = &known.endpoint.key;
    let is_gateway = |address| report.interface.role_of(address) == AddressRole::Gateway;
    let remote = match (key.direction, &known.display_name, key.remote) {
        (Direction::Ingress, ..) => "inbound".to_owned(),
        (_, _, Remote::Address(address)) if is_gateway(address) && key.port == port::DNS => {
            DnsForwarder::NAME.to_owned()
        }
        (_, _, Remote::Address(address)) if is_gateway(address) => "(this machine)".to_owned(),
        (_, Some(display), _) => display.name.to_string(),
        (_, None, Remote::Address(address)) => address.to_string(),
        (_, None, Remote::Others) => "others".to_owned(),
    };
    match key.protocol.has_ports() {
        true => format!("{remote} {}/{}", key.protocol, key.port),
        false => format!("{remote} {}", key.protocol),
    }
}
