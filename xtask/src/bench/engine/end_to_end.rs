//! Rates with netwatch and with Debian's capture programs, as ratios to the rate without any of
//! them in the same round.

use std::process::{Child, Command, Stdio};

use netwatch_tests::missing_tool;

use super::EngineOptions;
use super::scene::{CommandNetwork, Scene};
use super::stats::{least, median, most, pairs};
use crate::Result;

const ROUNDS: usize = 5;
/// Flows of the small datagrams.
const FLOWS: u64 = 16;

/// The program that observes the traffic.
#[derive(Debug, Clone, Copy)]
enum Watcher {
    None,
    Netwatch,
    /// A program, and its arguments to observe the interface `plain0` in the foreground.
    Program(&'static str, &'static [&'static str]),
}

const WATCHERS: [Watcher; 5] = [
    Watcher::None,
    Watcher::Netwatch,
    Watcher::Program("tcpdump", &["-i", "plain0", "-n", "-Z", "root", "-w", "/dev/null"]),
    Watcher::Program("softflowd", &["-i", "plain0", "-d", "-p", "softflowd.pid", "-c", "softflowd.ctl"]),
    Watcher::Program("nfpcapd", &["-i", "plain0", "-w", "flows"]),
];

/// A kind of traffic: its name, unit, and how to measure its rate.
type RateLoad = (&'static str, &'static str, fn(&Scene, CommandNetwork) -> Result<f64>);

const LOADS: [RateLoad; 2] = [
    ("iperf3, one TCP stream", "Gbit/s", |scene, network| scene.stream(network)),
    ("small datagrams, 16 flows", "kpps", |scene, network| scene.flood(network, FLOWS).map(|rate| rate / 1e3)),
];

/// Prints rates and paired ratios.
pub fn run(options: &EngineOptions) -> Result {
    for watcher in WATCHERS {
        if let Watcher::Program(program, _) = watcher
            && let Some(why) = missing_tool(program)
        {
            return Err(format!("cannot measure beside {program}: {why}"));
        }
    }
    let scene = Scene::start(options)?;
    scene.net.host.sh("mkdir -p flows");
    println!(
        "\nend to end, {ROUNDS} rounds of {} s, order rotated; ratio: to the rate without, in the same round",
        scene.seconds
    );
    for load in LOADS {
        let rates = measure(&scene, load)?;
        print(load, &rates);
    }
    Ok(())
}

fn measure(scene: &Scene, (_, _, rate): RateLoad) -> Result<Vec<Vec<f64>>> {
    let mut rates = vec![Vec::new(); WATCHERS.len()];
    for round in 0..ROUNDS {
        for step in 0..WATCHERS.len() {
            let index = (round + step) % WATCHERS.len();
            let watched = match WATCHERS[index] {
                Watcher::None => rate(scene, CommandNetwork::Plain)?,
                Watcher::Netwatch => rate(scene, CommandNetwork::Watched)?,
                Watcher::Program(program, arguments) => {
                    let _watching = Watching::start(scene, program, arguments)?;
                    rate(scene, CommandNetwork::Plain)?
                }
            };
            rates[index].push(watched);
        }
    }
    Ok(rates)
}

fn print((name, unit, _): RateLoad, rates: &[Vec<f64>]) {
    println!("\n{name}");
    println!("  {:10} {:>8} {:>7} {:>7} {:>7}", "", unit, "ratio", "least", "most");
    let Some(without) = rates.first() else { return };
    for (watcher, rates) in WATCHERS.iter().zip(rates) {
        let ratios = pairs(rates, without, |one, without| one / without);
        let (least, most) = (least(&ratios), most(&ratios));
        // A spread on both sides of 1 shows no difference.
        let noise = if least <= 1.0 && most >= 1.0 && !matches!(watcher, Watcher::None) { "  noise" } else { "" };
        let name = watcher.name();
        println!("  {name:10} {:8.2} {:7.3} {least:7.3} {most:7.3}{noise}", median(rates), median(&ratios));
    }
}

impl Watcher {
    fn name(self) -> &'static str {
        match self {
            Self::None => "without",
            Self::Netwatch => "netwatch",
            Self::Program(program, _) => program,
        }
    }
}

/// A running capture program; ended when dropped.
struct Watching(Child);

impl Watching {
    /// Returns when the program has opened its packet socket.
    fn start(scene: &Scene, program: &str, arguments: &[&str]) -> Result<Self> {
        let mut command: Command = scene.net.host.command(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("cannot start {program}: {error}"))?;
        let watching = Self(child);
        scene.net.host.wait_for("test $(wc -l < /proc/net/packet) -gt 1");
        Ok(watching)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ = self.0.wait();
    }
}
