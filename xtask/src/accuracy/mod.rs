//! Compares what netwatch counts with an independent count of the same traffic, for many ways to
//! use the network, and prints a table. docs/accuracy.md has its results.
//!
//! The independent count is that of a packet socket beyond the host's uplink, behind NAT; for the
//! loopback of a run it is that of its interface.

mod compared;
mod scenarios;

use netwatch_tests::addresses::{APP_V4, APP_V6};
use netwatch_tests::{FrameCounter, InternetShape, TestInternet};

use crate::Result;
use crate::build;
use crate::command::{cargo, run as run_command, target_dir};
use compared::ComparedRow;
use scenarios::{Scenario, ScenarioPrograms};

/// Runs every scenario whose name contains the filter. Fails if one is not as expected.
pub fn run(filter: Option<&str>) -> Result {
    if let Some(why) = netwatch_tests::missing() {
        return Err(format!("cannot create the test network: {why}"));
    }
    build::netwatch_for_tests()?;
    let programs = build_programs()?;
    let net = TestInternet::start(InternetShape::default());
    prepare(&net);
    println!("{}", ComparedRow::HEADER);
    let mut wrong = Vec::new();
    let is_selected = |scenario: &Scenario| filter.is_none_or(|filter| scenario.name.contains(filter));
    for scenario in scenarios::all(&net, &programs).into_iter().filter(is_selected) {
        let row = compare(&net, &scenario)?;
        println!("{row}");
        if !row.is_expected() {
            wrong.push(scenario.name);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("not as expected: {}", wrong.join(", "))) }
}

/// The programs that send.
fn build_programs() -> Result<ScenarioPrograms> {
    run_command(cargo().args(["build", "--quiet", "--package", "netwatch-tests", "--bins"]))?;
    let path = |name: &str| target_dir().join("debug").join(name).display().to_string();
    Ok(ScenarioPrograms { traffic: path("traffic"), senders: path("senders") })
}

/// No super-frames beyond the uplink, so that the packet socket counts packets of a wire; and no
/// answers to datagrams of a burst.
fn prepare(net: &TestInternet) {
    net.host.sh("ip link set dev uplink gso_max_segs 1");
    net.inet.sh("ip link set dev lan gso_max_segs 1");
    net.inet.sh(&format!("nft add rule inet silence input ip daddr {APP_V4} udp dport '>= 20000' drop"));
}

fn compare(net: &TestInternet, scenario: &Scenario) -> Result<ComparedRow> {
    let counter = FrameCounter::start(&net.inet, "lan", vec![APP_V4.into(), APP_V6.into()]);
    let words: Vec<&str> = scenario.command.iter().map(String::as_str).collect();
    let run = net.host.run(&[&["-q"], scenario.flags].concat(), &words);
    let counts = counter.finish();
    if run.code != Some(0) || counts.lost != 0 {
        return Err(format!("{}: {} frames were lost; {run}", scenario.name, counts.lost));
    }
    ComparedRow::make(scenario, &run, &counts)
}
