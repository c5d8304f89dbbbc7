//! A virtual machine: a kernel and an initramfs under qemu's software emulation, which works on any
//! machine, also a virtual one. It has a serial console and no other device.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::architecture::{Architecture, Threads};
use crate::Result;

/// A machine to boot.
#[derive(Debug)]
pub struct Machine<'a> {
    pub architecture: Architecture,
    pub threads: Threads,
    pub image: PathBuf,
    pub initramfs: &'a Path,
    /// Environment variables of init: the kernel passes on parameters that it does not use.
    pub variables: Vec<String>,
    /// Whether to show the console while it runs.
    pub verbose: bool,
}

/// The output on the console.
#[derive(Debug, Default)]
pub struct Console {
    /// Each line with the time since the start.
    pub lines: Vec<(Duration, String)>,
    /// Whether the machine was still running when the time limit expired.
    pub timed_out: bool,
}

/// Kills the machine when dropped.
struct RunningMachine(Child);

impl Drop for RunningMachine {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Machine<'_> {
    /// Runs the machine until it powers off, for at most `limit`.
    pub fn run(&self, limit: Duration) -> Result<Console> {
        let started = Instant::now();
        let qemu = self.qemu().spawn().map_err(|error| format!("cannot start qemu: {error}"))?;
        let mut running = RunningMachine(qemu);
        let lines = read(running.0.stdout.take().ok_or("the console is a pipe")?);
        let mut console = Console::default();
        loop {
            match lines.recv_timeout(limit.saturating_sub(started.elapsed())) {
                Ok(line) => {
                    if self.verbose {
                        println!("{line}");
                    }
                    console.lines.push((started.elapsed(), line));
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(console),
                Err(RecvTimeoutError::Timeout) => {
                    console.timed_out = true;
                    return Ok(console);
                }
            }
        }
    }

    fn qemu(&self) -> Command {
        let mut qemu = self.architecture.emulator(self.threads);
        qemu.args(["-m", "1024"]);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        qemu.arg("-kernel").arg(&self.image).arg("-initrd").arg(self.initramfs);
        // Kernel messages below errors are off, because they interrupt lines. A panic ends the
        // machine. The third CPU stays offline until a test turns it on. On a busy machine, the
        // kernel may miss the ticks by which it checks its timer, and would panic.
        let (console, variables) = (self.architecture.console(), self.variables.join(" "));
        qemu.args(["-append", &format!("console={console} loglevel=4 panic=-1 maxcpus=2 no_timer_check {variables}")]);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        qemu
    }
}

/// The lines of the console, until it is closed.
fn read(console: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
        let lines = BufReader::new(console).split(b'\n').map_while(std::result::Result::ok);
        // Sending fails once the time limit has expired.
        let _end = lines.map(text).try_for_each(|line| sender.send(line));
    });
    receiver
}

/// The complete output with times.
impl std::fmt::Display for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lines.iter().try_for_each(|(at, line)| writeln!(f, "{:7.2} {line}", at.as_secs_f64()))
    }
}
