//! Loads and attaches the programs that report processes. Failure here costs no count and fails no
//! run: it is reported as a note.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};
use crate::meter::{ProcessTracer, ProcessTracerConfig};
use crate::process::Attribution;

/// The programs, being loaded and attached in a thread of their own: the first attachment to a cgroup waits for all CPUs, some 12 ms.
pub(super) struct Loading {
    thread: JoinHandle<Result<ProcessTracer>>,
}

impl Loading {
    /// For the run's cgroup; without one, nobody is looked for.
    pub(super) fn start(config: ProcessTracerConfig, cgroup: Option<&Path>) -> Result<Self> {
        let cgroup = cgroup.map(Path::to_owned);
        let load = move || {
            let none = || Error::other("look for", "processes", "the run has no cgroup of its own");
            let cgroup = cgroup.ok_or_else(none)?;
            attach(ProcessTracer::load(config)?, &cgroup)
        };
        let thread = thread::Builder::new().name("processes".into()).spawn(load);
        thread.map(|thread| Self { thread }).map_err(|error| Error::os("start thread", "processes", error))
    }

    /// Waits until they are attached; without them, the attribution states why.
    pub(super) fn finish(self, notes: &mut Vec<String>) -> (Option<ProcessTracer>, Attribution) {
        let attached = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match attached.map_err(|error| error.to_string()) {
            Ok(probe) => {
                notes.extend(missing(&probe));
                (Some(probe), Attribution::On)
            }
            Err(why) => {
                notes.push(format!("processes are not named: {why}"));
                (None, Attribution::Off(why))
            }
        }
    }
}

fn attach(mut probe: ProcessTracer, cgroup: &Path) -> Result<ProcessTracer> {
    let directory = File::open(cgroup).map_err(|error| Error::os("open", cgroup.display().to_string(), error))?;
    probe.attach(directory.as_fd())?;
    Ok(probe)
}

/// What will not be seen, in words of the report.
fn missing(probe: &ProcessTracer) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    let refused = probe.rejected().map(|(name, error)| (name, error.to_string()));
    let untried = probe.untried().map(|name| (name, format!("the kernel's BTF does not know what {name} reads")));
    for (name, error) in refused.chain(untried) {
        let what = match name {
            "connect_unix" | "sendmsg_unix" => "unix sockets are not listed: this kernel has no programs for them (Linux 6.7 has)".into(),
            "sock_send_length" | "sock_recv_length" => {
                "a socket that was handed on is shown as its maker's: this kernel does not tell who sends (Linux 6.3 does)".into()
            }
            "sock_release" => format!("a port is taken for a process's also after it closed it: {error}"),
            "sched_process_exit" => format!("a long run has no room for processes at some time: {error}"),
            _ => format!("processes may be missing: {error}"),
        };
        if !said.contains(&what) {
            said.push(what);
        }
    }
    said
}
