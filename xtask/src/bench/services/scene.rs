//! The namespaces of the bench, the loads, and what a report counts as lost.

use std::path::PathBuf;
use std::time::Duration;

use netwatch_tests::{FinishedRun, InternetShape, RunningNetwatch, StartOptions, TestInternet};
use serde_json::Value;

use crate::{Result, command};

/// The same veth, route and NAT as netwatch creates, with neither classifier nor capture.
const PLAIN: &str = include_str!("../plain.sh");
/// The first of the server's addresses on the link; all of its network belong to the server.
pub const SERVER: &str = "203.0.113.65:7000";
/// The first of the server's addresses on the loopback.
pub const LOOPBACK: &str = "127.0.0.1:7000";
/// First port of the datagrams, which are dropped when they arrive.
const FIRST_PORT: u16 = 20_000;
/// Longest run of the bench.
const LIMIT: Duration = Duration::from_secs(240);

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadNetwork {
    /// A namespace behind the host, created with `ip`.
    Plain,
    /// A namespace that netwatch creates.
    Watched,
}

/// Everything is removed when it is dropped.
pub struct ServicesScene {
    pub net: TestInternet,
    load: PathBuf,
}

impl ServicesScene {
    /// Creates the namespaces and starts the server.
    pub fn start(load: PathBuf) -> Self {
        let net = TestInternet::start(InternetShape::default());
        net.host.sh(PLAIN);
        net.inet.sh(&format!(
            "ip route add local 203.0.113.64/26 dev lo
            nft add table inet bench
            nft add chain inet bench first '{{ type filter hook prerouting priority -400; }}'
            nft add rule inet bench first udp dport '>=' {FIRST_PORT} drop
            {} serve {SERVER} >serving 2>&1 &
            until grep -q listening serving; do sleep 0.05; done",
            load.display()
        ));
        Self { net, load }
    }

    /// The command line of connections with these parameters.
    pub fn connections(&self, parameters: &str) -> String {
        format!("{} connections {parameters}", self.load.display())
    }

    /// The command line of datagrams to 1,000 ports.
    pub fn datagrams(&self, count: u64) -> String {
        format!("{} datagrams to=203.0.113.65:{FIRST_PORT} ports=1000 count={count}", self.load.display())
    }

    /// What a command prints.
    pub fn output(&self, network: LoadNetwork, command: &str) -> Result<String> {
        match network {
            LoadNetwork::Plain => {
                let mut plain = self.net.host.command("ip");
                command::output(plain.args(["netns", "exec", "plain", "sh", "-ec", command]))
            }
            LoadNetwork::Watched => Ok(self.finish(self.watch(command))?.stdout),
        }
    }

    /// Starts a command under netwatch.
    pub fn watch(&self, command: &str) -> RunningNetwatch {
        let options = StartOptions { limit: LIMIT, ..StartOptions::default() };
        self.net.host.start_with(options, &["-q"], &["sh", "-ec", command])
    }

    /// Waits for the end of a run, which must succeed.
    pub fn finish(&self, running: RunningNetwatch) -> Result<FinishedRun> {
        let run = running.finish();
        if run.code == Some(0) { Ok(run) } else { Err(format!("netwatch failed: {run}")) }
    }
}

/// The rate that a load printed.
pub fn rate(printed: &str) -> Result<f64> {
    let rate = printed.lines().find_map(|line| line.strip_prefix("rate ")).and_then(|rate| rate.parse().ok());
    rate.ok_or_else(|| format!("no rate in {printed:?}"))
}

/// What a report counts as lost, by reason, and the flows by evidence of their process.
pub fn losses(report: &Value) -> String {
    let parts = ["/lost", "/attribution/lost", "/naming/lost", "/attribution/flows"];
    let counts = |part: &&str| {
        let values = report.pointer(part).and_then(Value::as_object).into_iter().flatten();
        let text = values.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ");
        format!("{}: {}", part.trim_start_matches('/').replace('/', "."), if text.is_empty() { "none" } else { &text })
    };
    parts.iter().map(counts).collect::<Vec<_>>().join("; ")
}
