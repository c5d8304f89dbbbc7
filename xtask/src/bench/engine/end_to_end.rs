//! What is left of a rate when somebody watches: netwatch, and programs of Debian, each paired with
//! nobody.

use std::process::{Child, Command, Stdio};

use netwatch_tests::missing_tool;

use super::Options;
use super::scene::{Place, Scene};
use super::stats::{least, median, most, pairs};
use crate::Result;

const ROUNDS: usize = 5;
/// Flows of the small datagrams.
const FLOWS: u64 = 16;

/// Who watches.
#[derive(Debug, Clone, Copy)]
enum Watcher {
    Nobody,
    Netwatch,
    /// A program and how it watches the interface `plain0` on its own, in the foreground.
    Program(&'static str, &'static [&'static str]),
}

const WATCHERS: [Watcher; 5] = [
    Watcher::Nobody,
    Watcher::Netwatch,
    Watcher::Program("tcpdump", &["-i", "plain0", "-n", "-w", "/dev/null"]),
    Watcher::Program("softflowd", &["-i", "plain0", "-d", "-p", "softflowd.pid", "-c", "softflowd.ctl"]),
    Watcher::Program("nfpcapd", &["-i", "plain0", "-w", "flows"]),
];

/// A kind of traffic: its name, unit, and how to measure its rate.
type Load = (&'static str, &'static str, fn(&Scene, Place) -> Result<f64>);

const LOADS: [Load; 2] = [
    ("iperf3, one TCP stream", "Gbit/s", |scene, place| scene.stream(place)),
    ("small datagrams, 16 flows", "kpps", |scene, place| scene.flood(place, FLOWS).map(|rate| rate / 1e3)),
];

/// Prints rates and paired ratios.
pub fn run(options: &Options) -> Result {
    for watcher in WATCHERS {
        if let Watcher::Program(program, _) = watcher
            && let Some(why) = missing_tool(program)
        {
            return Err(format!("cannot measure beside {program}: {why}"));
        }
    }
    let scene = Scene::start(options)?;
    scene.net.host.sh("mkdir -p flows");
    println!("\nend to end, {ROUNDS} rounds of {} s, order rotated; ratio: to nobody in the same round", scene.seconds);
    for load in LOADS {
        let rates = measure(&scene, load)?;
        print(load, &rates);
    }
    Ok(())
}

fn measure(scene: &Scene, (_, _, rate): Load) -> Result<Vec<Vec<f64>>> {
    let mut rates = vec![Vec::new(); WATCHERS.len()];
    for round in 0..ROUNDS {
        for place in 0..WATCHERS.len() {
            let index = (round + place) % WATCHERS.len();
            let watched = match WATCHERS[index] {
                Watcher::Nobody => rate(scene, Place::Plain)?,
                Watcher::Netwatch => rate(scene, Place::Watched)?,
                Watcher::Program(program, arguments) => {
                    let _watching = Watching::start(scene, program, arguments)?;
                    rate(scene, Place::Plain)?
                }
            };
            rates[index].push(watched);
        }
    }
    Ok(rates)
}

fn print((name, unit, _): Load, rates: &[Vec<f64>]) {
    println!("\n{name}");
    println!("  {:10} {:>8} {:>7} {:>7} {:>7}", "", unit, "ratio", "least", "most");
    let Some(nobody) = rates.first() else { return };
    for (watcher, rates) in WATCHERS.iter().zip(rates) {
        let ratios = pairs(rates, nobody, |one, nobody| one / nobody);
        let (least, most) = (least(&ratios), most(&ratios));
        // A spread on both sides of 1 shows no difference.
        let noise = if least <= 1.0 && most >= 1.0 && !matches!(watcher, Watcher::Nobody) { "  noise" } else { "" };
        let name = watcher.name();
        println!("  {name:10} {:8.2} {:7.3} {least:7.3} {most:7.3}{noise}", median(rates), median(&ratios));
    }
}

impl Watcher {
    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Netwatch => "netwatch",
            Self::Program(program, _) => program,
        }
    }
}

/// A program that watches; ended when dropped.
struct Watching(Child);

impl Watching {
    /// Comes back when it has opened its packet socket.
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
