//! How long the DNS queries of a run wait while other runs start, and while dead ones are undone,
//! beside the same queries without netwatch on the same machine at the same time.

use std::path::Path;

use super::Storm;
use crate::addresses::{APP, DNS_V4};
use crate::wait::Gate;

/// Microseconds, as `traffic queries` prints them.
#[derive(Debug, Clone, Copy)]
pub struct Latencies {
    /// Number of queries.
    pub count: u64,
    /// The median.
    pub median: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Latencies {
    fn parse(text: &str) -> Self {
        let line = text.lines().find_map(|line| line.strip_prefix("queries ")).expect("latencies");
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
        let [count, median, p99, max] = numbers[..] else { panic!("four numbers in {line}") };
        Self { count, median, p99, max }
    }
}

/// Starts this many other runs one after another, or undoes as many dead ones at once, and returns
/// the latencies of queries in a run, and of those outside of it. `traffic` is the program of that
/// name of this crate.
pub fn dns_latencies(storm: &Storm<'_>, traffic: &Path, starts: usize, dead: usize) -> [Latencies; 2] {
    let host = &storm.net.host;
    let killed: Vec<_> = (0..dead).map(|_| host.start(&["-q"], &["sh", "-c", "echo ready; exec sleep 300"])).collect();
    for mut run in killed {
        run.wait_for_stdout("ready");
        run.kill_with_guardian();
    }
    let gate = host.gate();
    let program = traffic.to_str().expect("a path of the build");
    let mut inside = host.start(&["-q"], &[program, "queries", "resolv.conf", APP, gate.path()]);
    inside.wait_for_stdout("begun");
    let mut outside = host.command(traffic);
    let outside = outside.args(["queries", &DNS_V4.to_string(), APP, gate.path()]).stdout(std::process::Stdio::piped());
    let outside = outside.spawn().expect("start traffic");
    disturb(storm, starts, &gate);
    let inside = inside.finish();
    let outside = outside.wait_with_output().expect("wait for traffic");
    storm.check("DNS queries");
    [Latencies::parse(&inside.assert_ok().stdout), Latencies::parse(&String::from_utf8_lossy(&outside.stdout))]
}

fn disturb(storm: &Storm<'_>, starts: usize, gate: &Gate) {
    for _ in 0..starts {
        storm.net.host.run(&["-q"], &["true"]).assert_ok();
    }
    storm.net.host.netwatch(&["clean"]).assert_ok();
    gate.open();
}
