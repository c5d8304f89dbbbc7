//! netwatch on other kernels, older ones and those for real time: each is booted in emulation with a small initramfs, where the classifier's own tests (load, attach, golden
//! packets, counts on a real link), those of the programs that follow processes, and one whole run have to succeed. Nothing of this machine but the folder `target/vm` changes, except for
//! the packages that are installed where they are missing.

mod initramfs;
mod kernel;
mod machine;
mod newc;
mod package;
mod python;
mod verdict;

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::command::target_dir;
use crate::{Result, setup, test};
use initramfs::Programs;
use kernel::Kernel;
use machine::{Console, Machine};
use package::Series;
use verdict::Verdict;

/// Debian packages of this task alone, each with a program or file that tells whether it is there.
const PACKAGES: [(&str, &str); 4] = [
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("busybox-static", "/var/lib/dpkg/info/busybox-static.list"),
    ("binutils", "strip"),
    ("iproute2", "ip"),
];

/// Seconds for the tests, and for the whole run. They take 15 to 30 and 5 on an idle machine with two processors.
const TEST_SECONDS: u64 = 300;
const RUN_SECONDS: u64 = 60;
/// And for booting and all the rest.
const OTHER_SECONDS: u64 = 60;

/// What may be said on the command line.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Series of Debian's cloud kernels (6.1) or of those for real time (6.1-rt), the newest of each is booted
    #[arg(long = "kernel", value_name = "SERIES", default_values = ["6.1", "6.12", "6.1-rt", "6.12-rt"])]
    kernels: Vec<Series>,
    /// Only unit tests whose name contains this
    #[arg(default_value = "meter::kernel::")]
    filter: String,
    /// A kernel without a package in apt's index is no failure
    #[arg(long)]
    allow_missing: bool,
    /// Show the consoles while the machines run, not only after a failure
    #[arg(short, long)]
    verbose: bool,
}

/// Boots one after the other; says everything that is wrong, not only the first.
pub fn run(arguments: &Arguments) -> Result {
    if !cfg!(target_arch = "x86_64") {
        return Err("what is built here does not run on the kernels for x86-64 that are booted".to_owned());
    }
    setup::install(&PACKAGES)?;
    test::build_object()?;
    let folder = target_dir().join("vm");
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let programs = Programs::build(&folder)?;
    let mut wrong = Vec::new();
    for series in &arguments.kernels {
        let outcome = Kernel::newest(series, &folder).and_then(|kernel| match kernel {
            Some(kernel) => try_kernel(&kernel, series.is_realtime(), &programs, &folder, arguments),
            None => Ok(missing(series, arguments)),
        });
        wrong.extend(outcome.unwrap_or_else(|failure| vec![failure]));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n       ")) }
}

fn missing(series: &Series, arguments: &Arguments) -> Vec<String> {
    let package = package::pattern(series);
    let message = format!("Linux {series}: apt's index has no package {package}, and target/vm has no such file");
    println!("{message}");
    if arguments.allow_missing { Vec::new() } else { vec![format!("{message} (--allow-missing lets this pass)")] }
}

/// Boots it: what is wrong there.
fn try_kernel(
    kernel: &Kernel,
    is_realtime: bool,
    programs: &Programs,
    folder: &Path,
    arguments: &Arguments,
) -> Result<Vec<String>> {
    let initramfs = folder.join("initramfs");
    initramfs::write(&initramfs, kernel, programs)?;
    let mut variables = vec![
        format!("TEST_FILTER={}", arguments.filter),
        format!("TEST_SECONDS={TEST_SECONDS}"),
        format!("RUN_SECONDS={RUN_SECONDS}"),
    ];
    // What the kernel does not know of its command line, it hands to init as environment.
    let fuzz = ["NETWATCH_FUZZ_SEED", "NETWATCH_FUZZ_FRAMES"];
    variables.extend(fuzz.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?))));
    let machine = Machine { image: kernel.image(), initramfs: &initramfs, variables, verbose: arguments.verbose };
    let console = machine.run(Duration::from_secs(TEST_SECONDS + RUN_SECONDS + OTHER_SECONDS))?;
    let mut verdict = Verdict::new(console.lines.iter().map(|(_, line)| line.as_str()));
    if console.timed_out {
        verdict.wrong.insert(0, "its time ran out".to_owned());
    }
    if verdict.is_realtime != is_realtime {
        verdict.wrong.push(format!("doctor says of PREEMPT_RT: {}", verdict.is_realtime));
    }
    show(kernel, &verdict, &console, arguments.verbose);
    Ok(verdict.wrong.iter().map(|wrong| format!("Linux {}: {wrong}", kernel.release)).collect())
}

/// A few lines for each kernel; after a failure the console before them.
fn show(kernel: &Kernel, verdict: &Verdict, console: &Console, verbose: bool) {
    if !verdict.wrong.is_empty() && !verbose {
        print!("{console}");
    }
    let Verdict { passed, skipped, failed, .. } = verdict;
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

/// When the first process said its first line, and how long it all took.
fn times(console: &Console) -> String {
    let seconds = |at: &Duration| format!("{:.1} s", at.as_secs_f64());
    let booted = console.lines.iter().find(|(_, line)| line.contains("netwatch-vm: booted"));
    let booted = booted.map_or("did not boot".to_owned(), |(at, _)| format!("booted in {}", seconds(at)));
    let end = console.lines.last().map_or("never".to_owned(), |(at, _)| format!("after {}", seconds(at)));
    format!("{booted}, last heard of {end}")
}
