//! What netwatch itself uses and loses: CPU time and memory over 200,000 connections, and lost
//! observations in bursts and at the highest rate.

use std::fs;
use std::time::{Duration, Instant};

use netwatch_tests::RunningNetwatch;

use super::scene::{LOOPBACK, SERVER, ServicesScene, losses, rate};
use crate::Result;
use crate::bench::memory::{is_netwatch, status_kib};

const CONNECTIONS: u64 = 200_000;
/// Milliseconds after the last connection until memory is read: two drains.
const HOLD: u64 = 2_500;
/// Clock ticks per second in /proc (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Bursts, each with the parameters of its connections.
const BURSTS: [(&str, &str); 3] = [
    ("4 x 1,000 sockets at once", "count=1000 at_once=1000 times=4"),
    ("1,000 TLS connections at once after idle", "count=1000 at_once=1000 request=hello pause=3000"),
    ("full rate, 1,200,000 connections", "count=1200000 pause=0"),
];

/// Prints CPU time and memory for connections on the link and on the loopback.
pub fn measure(scene: &ServicesScene) -> Result {
    println!("\nnetwatch over {CONNECTIONS} connections, a request and a response each");
    let parameters = format!("hosts=60 count={CONNECTIONS} pause=0 hold={HOLD}");
    of(scene, "veth, full rate", &format!("to={SERVER} {parameters}"))?;
    of(scene, "loopback, full rate", &format!("to={LOOPBACK} {parameters} serve=yes"))?;
    of(scene, "loopback, 10,000/s", &format!("to={LOOPBACK} {parameters} rate=10000 serve=yes"))
}

fn of(scene: &ServicesScene, name: &str, parameters: &str) -> Result {
    let mut running = scene.watch(&scene.connections(parameters));
    running.wait_for_stdout("begin");
    let (before, started) = (cpu_seconds(scene), Instant::now());
    wait_for_rate(&mut running);
    let (after, took) = (cpu_seconds(scene), started.elapsed().as_secs_f64());
    let (at_once, later) = (resident(scene), resident_later(scene, &mut running));
    let run = scene.finish(running)?;
    let [user, system] = [0, 1].map(|at| after[at] - before[at]);
    let each = |seconds: f64| seconds * 1e6 / CONNECTIONS as f64;
    println!("  {name}: {:.0} connections/s", rate(&run.stdout)?);
    println!(
        "    CPU: user {:.1} % of a core, system {:.1} %; {:.2} µs and {:.2} µs per connection",
        user / took * 100.0,
        system / took * 100.0,
        each(user),
        each(system)
    );
    println!("    resident memory: {at_once:.1} MiB at the end, {later:.1} MiB 2 s later");
    println!("    {}", losses(run.report.as_ref().ok_or("no report")?));
    Ok(())
}

/// Waits for the last connection, as long as the run may take: a busy machine needs minutes.
fn wait_for_rate(running: &mut RunningNetwatch) {
    while running.is_running() && !running.stdout().contains("rate") {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Memory after the drains that follow the last connection.
fn resident_later(scene: &ServicesScene, running: &mut RunningNetwatch) -> f64 {
    let started = Instant::now();
    let mut last = resident(scene);
    while running.is_running() && started.elapsed().as_millis() < u128::from(HOLD) - 300 {
        std::thread::sleep(Duration::from_millis(50));
        last = resident(scene);
    }
    last
}

fn processes(scene: &ServicesScene) -> Vec<i32> {
    scene.net.host.processes().into_iter().filter(|pid| is_netwatch(*pid)).collect()
}

/// MiB of all processes of netwatch.
fn resident(scene: &ServicesScene) -> f64 {
    processes(scene).into_iter().filter_map(|pid| status_kib(pid, "VmRSS:")).sum::<u64>() as f64 / 1024.0
}

/// User and system time of all processes of netwatch.
fn cpu_seconds(scene: &ServicesScene) -> [f64; 2] {
    let times = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may contain spaces; user time is the 12th field after it.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut next = || fields.next()?.parse::<f64>().ok();
        Some([next()? / TICKS, next()? / TICKS])
    };
    let all = processes(scene).into_iter().filter_map(times);
    all.fold([0.0; 2], |sum, [user, system]| [sum[0] + user, sum[1] + system])
}

/// Prints what the report of each burst counts as lost.
pub fn measure_losses(scene: &ServicesScene) -> Result {
    println!("\nlost observations");
    for (name, parameters) in BURSTS {
        for (place, to) in [("veth", format!("to={SERVER}")), ("loopback", format!("to={LOOPBACK} serve=yes"))] {
            let command = scene.connections(&format!("{to} hosts=60 {parameters}"));
            let run = scene.finish(scene.watch(&command))?;
            println!("  {name}, {place}: {:.0} connections/s", rate(&run.stdout)?);
            println!("    {}", losses(run.report.as_ref().ok_or("no report")?));
        }
    }
    Ok(())
}
