//! Nanoseconds per run on a real link, by the kernel's own statistics, each classifier alone in
//! turn.

use netwatch::meter::KernelMeterConfig;

use super::Options;
use super::scene::{Place, Scene};
use super::stats::{least, median, pairs};
use super::subject::{RunTime, Subject};
use crate::Result;

/// The router's end of the host's uplink: ingress is what the host sends.
const INTERFACE: &str = "lan";
const ROUNDS: usize = 5;

/// Kinds of traffic.
#[derive(Debug, Clone, Copy)]
enum Load {
    Flood { flows: u64 },
    Stream,
}

/// Prints a table for every kind of traffic.
pub fn run(options: &Options) -> Result {
    let scene = Scene::start(options)?;
    // Statistics go with the descriptor, however this ends.
    let _statistics =
        aya::sys::enable_stats(aya::sys::Stats::RunTime).map_err(|error| format!("cannot count run time: {error}"))?;
    println!("\nns per run on a veth, kernel statistics (their own cost is in all of them), {ROUNDS} rounds");
    let loads = [
        ("UDP flood, 1 flow", Load::Flood { flows: 1 }),
        ("UDP flood, 256 flows", Load::Flood { flows: 256 }),
        ("iperf3, one TCP stream", Load::Stream),
    ];
    for (name, load) in loads {
        print(name, &measure(&scene, load, options)?);
    }
    Ok(())
}

/// A program's name, its ns per run in each round, and how often it ran in all.
struct Measured {
    name: &'static str,
    ns: Vec<f64>,
    runs: u64,
}

/// Each round loads the programs anew: maps are as empty for one as for the other.
fn measure(scene: &Scene, load: Load, options: &Options) -> Result<Vec<Measured>> {
    let mut measured: Vec<Measured> = Vec::new();
    for round in 0..ROUNDS {
        let mut subjects = vec![
            options.reference.empty()?,
            options.reference.plain()?,
            Subject::netwatch("netwatch", &KernelMeterConfig::default())?,
        ];
        if measured.is_empty() {
            measured = subjects.iter().map(|one| Measured { name: one.name, ns: Vec::new(), runs: 0 }).collect();
        }
        let count = subjects.len();
        let mut order: Vec<(usize, Subject)> = subjects.drain(..).enumerate().collect();
        order.rotate_left(round % count);
        for (index, subject) in order {
            let spent = one(scene, load, subject)?;
            measured[index].ns.push(spent.ns as f64 / spent.runs.max(1) as f64);
            measured[index].runs += spent.runs;
        }
    }
    Ok(measured)
}

/// Attached for as long as the traffic takes.
fn one(scene: &Scene, load: Load, subject: Subject) -> Result<RunTime> {
    let attach = move || {
        let mut subject = subject;
        subject.attach(INTERFACE).map(|()| subject)
    };
    let subject = scene.net.inet.inside(attach).join().map_err(|_| "a thread panicked")??;
    let before = subject.run_time()?;
    match load {
        Load::Flood { flows } => scene.flood(Place::Host, flows)?,
        Load::Stream => scene.stream(Place::Host)?,
    };
    let after = subject.run_time()?;
    // Whoever made the qdisc, it goes, and the filters with it.
    scene.net.inet.sh(&format!("tc qdisc del dev {INTERFACE} clsact"));
    Ok(RunTime { runs: after.runs - before.runs, ns: after.ns - before.ns })
}

fn print(name: &str, measured: &[Measured]) {
    let Some(empty) = measured.first() else { return };
    println!("\n{name}");
    println!("  {:14} {:>7} {:>7} {:>7} {:>10}", "", "median", "least", "over", "runs");
    for one in measured {
        let over = median(&pairs(&one.ns, &empty.ns, |one, empty| one - empty));
        println!("  {:14} {:7.1} {:7.1} {over:7.1} {:10}", one.name, median(&one.ns), least(&one.ns), one.runs);
    }
}
