//! The made-up internet with what the bench needs more: a namespace without netwatch, a place where
//! datagrams end, iperf3.

use std::path::PathBuf;

use netwatch_tests::addresses::{APP_V4, IPERF};
use netwatch_tests::{InternetShape, TestInternet};
use serde_json::Value;

use super::Options;
use super::sender::FIRST_PORT;
use crate::Result;

/// The same veth, route and NAT as netwatch makes, by hand, with neither classifier nor capture.
const PLAIN: &str = include_str!("../plain.sh");

/// Everything is gone when it is dropped.
pub struct Scene {
    /// The namespaces.
    pub net: TestInternet,
    myself: PathBuf,
    /// Seconds of one measurement.
    pub seconds: f64,
}

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the host itself.
    Host,
    /// In a namespace behind the host, made by hand.
    Plain,
    /// In the namespace that netwatch makes.
    Watched,
}

impl Scene {
    /// Makes the namespaces.
    pub fn start(options: &Options) -> Result<Self> {
        if let Some(why) = netwatch_tests::missing() {
            return Err(format!("cannot measure here: {why}"));
        }
        let myself = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut net = TestInternet::start(InternetShape::default());
        net.start_iperf();
        net.host.sh(PLAIN);
        // Before connection tracking and routing: only the way to here is to be measured.
        net.inet.sh(&format!(
            "nft add table inet bench
            nft add chain inet bench first '{{ type filter hook prerouting priority -400; }}'
            nft add rule inet bench first udp dport '>=' {FIRST_PORT} drop"
        ));
        Ok(Self { net, myself, seconds: options.seconds })
    }

    /// The command line that sends datagrams.
    pub fn sender(&self, flags: &[&str]) -> Vec<String> {
        let words = [self.myself.to_str().unwrap_or_default(), "send"];
        words.iter().chain(flags).map(|word| (*word).to_owned()).collect()
    }

    /// Datagrams a second.
    pub fn flood(&self, place: Place, flows: u64) -> Result<f64> {
        let sender = self.sender(&["--flows", &flows.to_string(), "--seconds", &self.seconds.to_string()]);
        super::sender::rate(&self.run(place, &sender.join(" "))?)
    }

    /// Gbit/s of one TCP stream.
    pub fn stream(&self, place: Place) -> Result<f64> {
        let seconds = self.seconds;
        let said = self.run(place, &format!("iperf3 -J -t {seconds} -c {APP_V4} -p {IPERF}"))?;
        let document: Value = serde_json::from_str(&said).map_err(|error| format!("iperf3 said no JSON: {error}"))?;
        let bits = document.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
        bits.map(|bits| bits / 1e9).ok_or_else(|| format!("iperf3 failed: {}", document["error"]))
    }

    fn run(&self, place: Place, command: &str) -> Result<String> {
        match place {
            Place::Host => Ok(self.net.host.sh(command)),
            Place::Plain => Ok(self.net.host.sh(&format!("ip netns exec plain {command}"))),
            Place::Watched => {
                let run = self.net.host.run(&["-q"], &["sh", "-c", command]);
                if run.code == Some(0) { Ok(run.stdout) } else { Err(format!("netwatch failed: {run}")) }
            }
        }
    }
}
