//! Tests netwatch on other kernels: older ones, real-time ones, and those of arm64 with pages of 4
//! and of 16 KiB. Each is booted in emulation with
//! a small initramfs. The unit tests of the classifier (load, attach, golden packets, counts on a
//! real link) and of the programs that follow processes have to pass there, and so does one
//! complete run. Only the folder `target/vm` changes on this machine, besides packages that are
//! installed where they are missing.

mod apt;
mod architecture;
mod initramfs;
mod kernel;
mod machine;
mod newc;
mod package;
mod python;
mod userland;
mod verdict;

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::command::target_dir;
use crate::{Result, setup, test};
use architecture::Architecture;
use initramfs::VmPrograms;
use kernel::VmKernel;
use machine::{Console, Machine};
use package::KernelSeries;
use verdict::VmVerdict;

/// Debian packages that only this task needs, each with a program or file that exists when it is
/// installed.
const PACKAGES: [(&str, &str); 3] =
    [("busybox-static", "/var/lib/dpkg/info/busybox-static.list"), ("binutils", "strip"), ("iproute2", "ip")];

/// Time limit of the tests, in seconds. They take 15 to 30 on an idle machine with two cores.
const TEST_SECONDS: u64 = 300;
/// Time limit of the tests that change the machine.
const MACHINE_SECONDS: u64 = 120;
/// Time limit of the complete run, which takes 5.
const RUN_SECONDS: u64 = 60;
/// Time limit of booting and everything else.
const OTHER_SECONDS: u64 = 60;

/// The series that are booted by default.
const DEFAULT_KERNELS: [&str; 6] = ["6.1", "6.12", "6.1-rt", "6.12-rt", "6.12-arm64", "6.12-arm64-16k"];

/// Arguments of `cargo xtask test-vm`.
#[derive(Debug, clap::Args)]
pub struct TestVmArguments {
    /// Series of Debian kernels, such as 6.1, 6.1-rt, 6.12-arm64 or 6.12-arm64-16k
    ///
    /// The newest kernel of each series is booted. `-rt` is the real-time one, and `-16k` has pages
    /// of 16 KiB.
    #[arg(long = "kernel", value_name = "SERIES", default_values = DEFAULT_KERNELS)]
    kernels: Vec<KernelSeries>,
    /// Only run unit tests whose name contains this
    #[arg(default_value = "meter::kernel::")]
    filter: String,
    /// Multiply the time limits by this, on a busy machine
    #[arg(long, value_name = "FACTOR", default_value_t = 1)]
    slow: u64,
    /// Boot each kernel this many times
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    times: usize,
    /// Do not fail when apt's index has no package of a series
    #[arg(long)]
    allow_missing: bool,
    /// Show the consoles while the machines run, not only after a failure
    #[arg(short, long)]
    verbose: bool,
}

/// Boots one kernel after the other, and reports every failure, not only the first.
pub fn run(arguments: &TestVmArguments) -> Result {
    if !cfg!(target_arch = "x86_64") {
        return Err("cannot boot kernels for x86-64: netwatch is built for another architecture".to_owned());
    }
    setup::install(&PACKAGES)?;
    test::build_objects()?;
    let folder = target_dir().join("vm");
    fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let mut wrong = Vec::new();
    for architecture in [Architecture::Amd64, Architecture::Arm64] {
        let series = arguments.kernels.iter().filter(|series| series.architecture() == architecture);
        let series: Vec<_> = series.collect();
        if !series.is_empty() {
            wrong.extend(try_architecture(architecture, &series, &folder, arguments)?);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n       ")) }
}

/// Boots the kernels of one architecture. Returns what is wrong there.
fn try_architecture(
    architecture: Architecture,
    series: &[&KernelSeries],
    folder: &Path,
    arguments: &TestVmArguments,
) -> Result<Vec<String>> {
    setup::install(architecture.packages())?;
    let programs = VmPrograms::build(architecture, folder)?;
    let outcomes = series.iter().map(|series| {
        VmKernel::newest(series, folder).and_then(|kernel| match kernel {
            Some(kernel) => try_often(&kernel, series, &programs, folder, arguments),
            None => Ok(missing(series, arguments)),
        })
    });
    Ok(outcomes.flat_map(|outcome| outcome.unwrap_or_else(|failure| vec![failure])).collect())
}

fn missing(series: &KernelSeries, arguments: &TestVmArguments) -> Vec<String> {
    let package = package::pattern(series);
    let message = format!("Linux {series}: apt's index has no package {package}, and target/vm has no such file");
    println!("{message}");
    if arguments.allow_missing {
        Vec::new()
    } else {
        vec![format!("{message}\nhint: --allow-missing skips this kernel")]
    }
}

/// Boots a kernel as often as requested. Returns what was wrong.
fn try_often(
    kernel: &VmKernel,
    series: &KernelSeries,
    programs: &VmPrograms,
    folder: &Path,
    arguments: &TestVmArguments,
) -> Result<Vec<String>> {
    let initramfs = folder.join("initramfs");
    initramfs::write(&initramfs, kernel, programs)?;
    let wrong = (0..arguments.times).map(|_| try_kernel(kernel, series, &initramfs, arguments));
    Ok(wrong.collect::<Result<Vec<_>>>()?.concat())
}

/// Boots a kernel. Returns what is wrong there.
fn try_kernel(
    kernel: &VmKernel,
    series: &KernelSeries,
    initramfs: &Path,
    arguments: &TestVmArguments,
) -> Result<Vec<String>> {
    let limits = [("TEST", TEST_SECONDS), ("MACHINE", MACHINE_SECONDS), ("RUN", RUN_SECONDS), ("OTHER", OTHER_SECONDS)];
    let limits = limits.map(|(what, seconds)| (what, seconds.saturating_mul(arguments.slow)));
    let mut variables = vec![format!("TEST_FILTER={}", arguments.filter)];
    variables.extend(limits.map(|(what, seconds)| format!("{what}_SECONDS={seconds}")));
    // The kernel passes parameters that it does not use to init, as environment variables.
    let fuzz = ["NETWATCH_FUZZ_SEED", "NETWATCH_FUZZ_FRAMES"];
    variables.extend(fuzz.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?))));
    let machine = Machine {
        architecture: series.architecture(),
        threads: series.threads(),
        image: kernel.image(),
        initramfs,
        variables,
        verbose: arguments.verbose,
    };
    let console = machine.run(Duration::from_secs(limits.iter().map(|(_, seconds)| seconds).sum()))?;
    let mut verdict = VmVerdict::new(console.lines.iter().map(|(_, line)| line.as_str()));
    if console.timed_out {
        verdict.wrong.insert(0, "the time limit expired".to_owned());
    }
    if verdict.is_realtime != series.is_realtime() {
        verdict.wrong.push(format!("doctor reports PREEMPT_RT: {}", verdict.is_realtime));
    }
    if verdict.page_kib != Some(series.page_kib()) {
        verdict.wrong.push(format!("pages of {:?} KiB instead of {}", verdict.page_kib, series.page_kib()));
    }
    show(kernel, &verdict, &console, arguments.verbose);
    Ok(verdict.wrong.iter().map(|wrong| format!("Linux {}: {wrong}", kernel.release)).collect())
}

/// Prints a few lines about a kernel, after its console if something is wrong.
fn show(kernel: &VmKernel, verdict: &VmVerdict, console: &Console, verbose: bool) {
    if !verdict.wrong.is_empty() && !verbose {
        print!("{console}");
    }
    let VmVerdict { passed, skipped, failed, .. } = verdict;
    println!("Linux {}: {}", kernel.release, times(console));
    println!("  tests: {passed} passed, {} skipped, {} failed", skipped.len(), failed.len());
    skipped.iter().for_each(|(name, reason)| println!("    skipped: {name}: {reason}"));
    if let Some(verified) = verdict.verified {
        println!("  verifier: {verified} instructions");
    }
    if let Some(skbs) = verdict.balanced {
        println!("  netwatch run: balance closed, difference 0 over {skbs} socket buffers");
    }
}

/// The time until the first line of init, and the time of the last line.
fn times(console: &Console) -> String {
    let seconds = |at: &Duration| format!("{:.1} s", at.as_secs_f64());
    let booted = console.lines.iter().find(|(_, line)| line.contains("netwatch-vm: booted"));
    let booted = booted.map_or("did not boot".to_owned(), |(at, _)| format!("booted in {}", seconds(at)));
    let end = console.lines.last().map_or("never".to_owned(), |(at, _)| format!("after {}", seconds(at)));
    format!("{booted}, last line {end}")
}
