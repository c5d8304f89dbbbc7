//! A real run: CPU time with many active flows, memory with few and after many flows.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use netwatch_tests::{RunningNetwatch, StartOptions};

use super::super::scene::Scene;
use super::super::stats::at_most;
use crate::Result;

const ACTIVE: u64 = 100_000;
/// Slightly more than one packet per active flow and second.
const PACKETS_PER_SECOND: u64 = 110_000;
const SEEN: u64 = 1 << 20;
/// Time for set-up and the first drains.
const SETTLE: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_secs(5);
/// Time until the first eight packets of all flows have been sampled, at slightly more than one per
/// second.
const SAMPLED: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(60);
/// Clock ticks of `/proc/PID/stat`: 10 ms on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Prints CPU and memory of a real run.
pub fn measure(scene: &Scene) -> Result {
    let busy = ["--flows", &ACTIVE.to_string(), "--rate", &PACKETS_PER_SECOND.to_string(), "--seconds", "30"];
    for (flags, what) in [(&["-q", "--no-record"][..], "not recorded"), (&["-q"], "recorded")] {
        let running = start(scene, flags, &busy)?;
        thread::sleep(SETTLE);
        println!("  CPU of netwatch, {ACTIVE} new flows, all packets sampled, {what}: {:.1} % of a core", share(scene));
        thread::sleep(SAMPLED);
        let share = at_most(share(scene), 8.0, "% of a core");
        println!("  CPU of netwatch, {ACTIVE} active flows, {what}: {share}");
        running.signal(libc::SIGTERM);
        running.finish();
    }
    for (flows, goal_mib) in [(10, 20.0), (SEEN, 300.0)] {
        let (resident, peak) = memory(scene, flows)?;
        println!("  RSS after {flows} flows: {}; most at the end {peak:.1} MiB", at_most(resident, goal_mib, "MiB"));
    }
    Ok(())
}

/// CPU time of netwatch during [`WINDOW`], in % of a core.
fn share(scene: &Scene) -> f64 {
    let (started, before) = (Instant::now(), ticks(scene));
    thread::sleep(WINDOW);
    (ticks(scene) - before) / TICKS_PER_SECOND / started.elapsed().as_secs_f64() * 100.0
}

fn start(scene: &Scene, flags: &[&str], sending: &[&str]) -> Result<RunningNetwatch> {
    let sender = scene.sender(sending);
    let command: Vec<&str> = sender.iter().map(String::as_str).collect();
    let options = StartOptions { limit: LIMIT, ..StartOptions::default() };
    let mut running = scene.net.host.start_with(options, flags, &command);
    running.wait_for_stdout("sending");
    Ok(running)
}

/// Resident memory of all netwatch processes after this number of flows, and the peak of one until
/// its end, in MiB.
fn memory(scene: &Scene, flows: u64) -> Result<(f64, f64)> {
    let flows = flows.to_string();
    let mut running = start(scene, &["-q"], &["--flows", &flows, "--count", &flows, "--hold"])?;
    // All flows, not only those sent until now.
    running.wait_for_stdout(&format!("sent {flows} "));
    thread::sleep(SETTLE);
    let resident: f64 = netwatch_processes(scene).iter().map(|pid| mebibytes(*pid, "VmRSS:").unwrap_or(0.0)).sum();
    running.signal(libc::SIGTERM);
    let mut peak = resident;
    while running.is_running() {
        peak = mebibytes(running.pid(), "VmHWM:").unwrap_or(0.0).max(peak);
        thread::sleep(Duration::from_millis(1));
    }
    running.finish();
    Ok((resident, peak))
}

/// The processes of netwatch in the host's namespace: itself and the guardian.
fn netwatch_processes(scene: &Scene) -> Vec<i32> {
    let is_ours = |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path.ends_with("netwatch"));
    scene.net.host.processes().into_iter().filter(is_ours).collect()
}

/// User and system time of all of them, in clock ticks.
fn ticks(scene: &Scene) -> f64 {
    netwatch_processes(scene).into_iter().filter_map(process_ticks).sum()
}

fn process_ticks(pid: i32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields are counted after the name, which may contain any text: proc_pid_stat(5) numbers them
    // from 3.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let [user, system] =
        [14, 15].map(|number: usize| fields.get(number - 3).and_then(|field| field.parse::<f64>().ok()));
    Some(user? + system?)
}

fn mebibytes(pid: i32, field: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: f64 = status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}
