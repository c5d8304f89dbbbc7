//! Nanoseconds per run on a real link, by the kernel's own statistics, each classifier alone in
//! turn.

use netwatch::meter::KernelMeterConfig;

use super::EngineOptions;
use super::scene::{CommandNetwork, Scene};
use super::stats::{least, median, pairs};
use super::subject::{BenchSubject, RunTime};
use crate::Result;

/// The router's end of the host's uplink: ingress is what the host sends.
const INTERFACE: &str = "lan";
const ROUNDS: usize = 5;

/// Kinds of traffic.
#[derive(Debug, Clone, Copy)]
enum LinkLoad {
    Flood { flows: u64 },
    Stream,
}

/// Prints a table for every kind of traffic.
pub fn run(options: &EngineOptions) -> Result {
    let scene = Scene::start(options)?;
    // The kernel turns the statistics off when the descriptor is closed, at the latest by exit.
    let _statistics =
        aya::sys::enable_stats(aya::sys::Stats::RunTime).map_err(|error| format!("cannot count run time: {error}"))?;
    println!("\nns per run on a veth, kernel statistics (their own cost is in all of them), {ROUNDS} rounds");
    let loads = [
        ("UDP flood, 1 flow", LinkLoad::Flood { flows: 1 }),
        ("UDP flood, 256 flows", LinkLoad::Flood { flows: 256 }),
        ("iperf3, one TCP stream", LinkLoad::Stream),
    ];
    for (name, load) in loads {
        print(name, &measure(&scene, load, options)?);
    }
    Ok(())
}

/// The name of a program, its ns per run in each round, and the number of runs.
struct LinkTimes {
    name: &'static str,
    ns: Vec<f64>,
    runs: u64,
}

/// Each round loads the programs again, so that all start with empty maps.
fn measure(scene: &Scene, load: LinkLoad, options: &EngineOptions) -> Result<Vec<LinkTimes>> {
    let mut measured: Vec<LinkTimes> = Vec::new();
    for round in 0..ROUNDS {
        let mut subjects = vec![
            options.reference.empty()?,
            options.reference.plain()?,
            BenchSubject::netwatch("netwatch", &KernelMeterConfig::default())?,
        ];
        if measured.is_empty() {
            measured = subjects.iter().map(|one| LinkTimes { name: one.name, ns: Vec::new(), runs: 0 }).collect();
        }
        let count = subjects.len();
        let mut order: Vec<(usize, BenchSubject)> = subjects.drain(..).enumerate().collect();
        order.rotate_left(round % count);
        for (index, subject) in order {
            let spent = one(scene, load, subject)?;
            measured[index].ns.push(spent.ns as f64 / spent.runs.max(1) as f64);
            measured[index].runs += spent.runs;
        }
    }
    Ok(measured)
}

/// Attaches one program while the traffic lasts.
fn one(scene: &Scene, load: LinkLoad, subject: BenchSubject) -> Result<RunTime> {
    let attach = move || {
        let mut subject = subject;
        subject.attach(INTERFACE).map(|()| subject)
    };
    let subject = scene.net.inet.inside(attach).join().map_err(|_| "a thread panicked")??;
    let before = subject.run_time()?;
    match load {
        LinkLoad::Flood { flows } => scene.flood(CommandNetwork::Host, flows)?,
        LinkLoad::Stream => scene.stream(CommandNetwork::Host)?,
    };
    let after = subject.run_time()?;
    // The filters are removed with the qdisc.
    scene.net.inet.sh(&format!("tc qdisc del dev {INTERFACE} clsact"));
    Ok(RunTime { runs: after.runs - before.runs, ns: after.ns - before.ns })
}

fn print(name: &str, measured: &[LinkTimes]) {
    let Some(empty) = measured.first() else { return };
    println!("\n{name}");
    println!("  {:14} {:>7} {:>7} {:>7} {:>10}", "", "median", "least", "over", "runs");
    for one in measured {
        let over = median(&pairs(&one.ns, &empty.ns, |one, empty| one - empty));
        println!("  {:14} {:7.1} {:7.1} {over:7.1} {:10}", one.name, median(&one.ns), least(&one.ns), one.runs);
    }
}
