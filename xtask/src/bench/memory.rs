//! Memory of a quiet run: resident memory of the netwatch processes, and memory of the maps in the
//! kernel.

use std::collections::BTreeMap;
use std::fs;

use netwatch_tests::TestInternet;

use crate::Result;

/// Prints both while a command sleeps.
pub fn measure(net: &TestInternet) -> Result {
    let mut running = net.host.start(&["-q"], &["sh", "-c", "echo ready; exec sleep 10"]);
    running.wait_for_stdout("ready");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let ours: Vec<i32> = net.host.processes().into_iter().filter(|pid| is_netwatch(*pid)).collect();
    let resident: u64 = ours.iter().filter_map(|pid| status_kib(*pid, "VmRSS:")).sum();
    let maps: BTreeMap<u64, u64> = ours.iter().flat_map(|pid| maps(*pid)).collect();
    println!("memory while a quiet command runs");
    for pid in &ours {
        let kib = status_kib(*pid, "VmRSS:").unwrap_or(0);
        println!("  process {pid:<8}            {:8.1} MiB resident", kib as f64 / 1024.0);
    }
    println!("  all of netwatch             {:8.1} MiB resident (goal: under 20)", resident as f64 / 1024.0);
    let bytes: u64 = maps.values().sum();
    println!("  {:2} kernel maps              {:8.1} MiB (goal: under 64)", maps.len(), bytes as f64 / 1048576.0);
    running.signal(15);
    running.finish();
    Ok(())
}

/// Whether a process runs netwatch.
pub fn is_netwatch(pid: i32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path.ends_with("netwatch"))
}

/// A field of /proc/PID/status in KiB.
pub fn status_kib(pid: i32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

/// Map ids and their memory (`memlock`, bytes), from the descriptors of a process.
fn maps(pid: i32) -> Vec<(u64, u64)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    let info = |entry: fs::DirEntry| fs::read_to_string(entry.path()).ok();
    entries
        .flatten()
        .filter_map(info)
        .filter_map(|text| Some((field(&text, "map_id:")?, field(&text, "memlock:")?)))
        .collect()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}
