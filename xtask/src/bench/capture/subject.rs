//! What is measured: a run of netwatch without a capture, with one, and with tcpdump on its link.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Duration;

use netwatch_tests::{FinishedRun, RunningNetwatch, StartOptions, TestHost, eventually};
use serde_json::Value;

use super::cpu::CpuSeconds;
use super::scene::{CaptureCase, CaptureScene};
use crate::Result;
use crate::bench::memory::is_netwatch;

/// Longest run of the bench.
const LIMIT: Duration = Duration::from_secs(120);
/// Time after the traffic until captures have written everything.
const SETTLE: Duration = Duration::from_millis(1_200);
/// Size of both buffers: netwatch's default.
const BUFFER_KIB: u32 = 16_384;

/// How packets are captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureSubject {
    /// Not at all: netwatch counts, as in all subjects.
    None,
    /// By netwatch, which divides super-frames.
    Netwatch,
    /// By netwatch, with the packets that tcpdump writes.
    SuperFrames,
    /// By tcpdump.
    Tcpdump,
}

impl CaptureSubject {
    pub const ALL: [Self; 4] = [Self::None, Self::Netwatch, Self::SuperFrames, Self::Tcpdump];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no capture",
            Self::Netwatch => "netwatch",
            Self::SuperFrames => "netwatch --super-frames",
            Self::Tcpdump => "tcpdump",
        }
    }

    fn flags(self, case: &CaptureCase) -> Vec<String> {
        let mut flags = vec!["-q".to_owned()];
        if matches!(self, Self::Netwatch | Self::SuperFrames) {
            flags.extend(["-w", "/dev/null", "--force"].map(str::to_owned));
            flags.extend(case.snaplen.map(|snaplen| format!("--snaplen={snaplen}")));
        }
        if self == Self::SuperFrames {
            flags.push("--super-frames".to_owned());
        }
        flags
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub struct MeasuredCapture {
    pub subject: CaptureSubject,
    /// Packets on the link; super-frames count once.
    pub seen: u64,
    /// Packets of those that were lost.
    pub lost: u64,
    /// Packets in the file.
    pub written: u64,
    /// CPU time during the traffic.
    pub cpu: CpuSeconds,
    /// Rate of the traffic.
    pub traffic: f64,
}

impl MeasuredCapture {
    /// Seconds of the processes of the capture for a million packets in the file. What netwatch
    /// uses without a capture does not count.
    pub fn own_cpu_per_million(&self, without: &Self) -> f64 {
        let metering = if self.subject == CaptureSubject::Tcpdump { 0.0 } else { without.cpu.own };
        (self.cpu.own - metering) * 1e6 / self.written as f64
    }

    /// Seconds of all CPUs, over those without a capture, for a million packets in the file.
    pub fn all_cpu_per_million(&self, without: &Self) -> f64 {
        (self.cpu.all - without.cpu.all) * 1e6 / self.written as f64
    }
}

/// Measures once.
pub fn measure(scene: &CaptureScene, subject: CaptureSubject, case: &CaptureCase) -> Result<MeasuredCapture> {
    let host = &scene.net.host;
    let (begin, end) = (host.gate(), host.gate());
    let script = format!("echo ready; {}; {}; echo finished; {}", begin.wait(), case.command, end.wait());
    let options = StartOptions { limit: LIMIT, ..StartOptions::default() };
    let flags = subject.flags(case);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut running = host.start_with(options, &flags, &["sh", "-ec", &script]);
    running.wait_for_stdout("ready");
    let tcpdump = (subject == CaptureSubject::Tcpdump).then(|| Tcpdump::start(host, case.snaplen)).transpose()?;
    let processes = match &tcpdump {
        Some(tcpdump) => vec![tcpdump.child.id() as i32],
        None => host.processes().into_iter().filter(|pid| is_netwatch(*pid)).collect(),
    };
    let before = CpuSeconds::read(&processes);
    begin.open();
    wait_for_end(&mut running);
    std::thread::sleep(SETTLE);
    let cpu = CpuSeconds::read(&processes).since(before);
    let counted = tcpdump.map(|tcpdump| tcpdump.finish(host)).transpose()?;
    end.open();
    let run = running.finish();
    if run.code != Some(0) {
        return Err(format!("netwatch failed: {run}"));
    }
    let traffic = (case.rate)(&run.stdout)?;
    let (seen, lost, written) = counted.map_or_else(|| counts(subject, &run), Ok)?;
    Ok(MeasuredCapture { subject, seen, lost, written, cpu, traffic })
}

/// Waits for the last packet, as long as the run may take.
fn wait_for_end(running: &mut RunningNetwatch) {
    while running.is_running() && !running.stdout().contains("finished") {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Packets seen, lost and written, from the report of a run.
fn counts(subject: CaptureSubject, run: &FinishedRun) -> Result<(u64, u64, u64)> {
    let report = run.report.as_ref().ok_or("no report")?;
    let both = |what: &str, counter: &str| -> u64 {
        let of = |way: &str| report.pointer(&format!("{what}/{way}/{counter}")).and_then(Value::as_u64).unwrap_or(0);
        of("egress") + of("ingress")
    };
    let (seen, packets) = (both("/balance/counted", "skbs"), both("/totals", "packets"));
    let lost = lost(report);
    let written = match subject {
        CaptureSubject::None => 0,
        // A lost super-frame is several packets; on average as many as the others.
        CaptureSubject::Netwatch => (packets as f64 * (seen - lost) as f64 / seen as f64) as u64,
        _ => seen - lost,
    };
    Ok((seen, lost, written))
}

/// Sums the notes `N packets out, M in were not captured: …`.
fn lost(report: &Value) -> u64 {
    let notes = report["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let of_note = |note: &str| -> Option<u64> {
        let (counts, _) = note.split_once(" in were not captured")?;
        let (out, into) = counts.split_once(" out, ")?;
        let (out, _) = out.split_once(' ')?;
        Some(out.parse::<u64>().ok()? + into.parse::<u64>().ok()?)
    };
    notes.filter_map(of_note).sum()
}

/// A running tcpdump on the link of the run.
struct Tcpdump {
    child: Child,
}

impl Tcpdump {
    fn start(host: &TestHost, snaplen: Option<u32>) -> Result<Self> {
        let link = host.sh("ip -br link | grep -o '^nw[0-9a-f]*'");
        let mut command = host.command("tcpdump");
        command.args(["-i", link.trim(), "-n", "-Z", "root", "-w", "/dev/null", "-B", &BUFFER_KIB.to_string()]);
        if let Some(snaplen) = snaplen {
            command.args(["-s", &snaplen.to_string()]);
        }
        let child = command.stderr(Stdio::piped()).spawn().map_err(|error| format!("cannot start tcpdump: {error}"))?;
        let tcpdump = Self { child };
        // Its packet socket exists when it captures.
        let pid = tcpdump.child.id();
        let is_open = || match host.sh("ss -0np").contains(&format!("pid={pid},")) {
            true => Ok(()),
            false => Err("tcpdump does not capture".to_owned()),
        };
        eventually(is_open)?;
        Ok(tcpdump)
    }

    /// Ends it. Returns the packets that it saw, that the kernel dropped, and that it wrote.
    fn finish(mut self, host: &TestHost) -> Result<(u64, u64, u64)> {
        host.sh(&format!("kill -INT {}", self.child.id()));
        let mut printed = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut printed).map_err(|error| format!("cannot read from tcpdump: {error}"))?;
        }
        self.child.wait().map_err(|error| format!("cannot wait for tcpdump: {error}"))?;
        let number = |what: &str| -> Result<u64> {
            let line = printed.lines().find_map(|line| line.strip_suffix(what));
            line.and_then(|count| count.trim().parse().ok()).ok_or_else(|| format!("no {what:?} in {printed:?}"))
        };
        let (captured, dropped) = (number(" packets captured")?, number(" packets dropped by kernel")?);
        Ok((captured + dropped, dropped, captured))
    }
}
