//! Loads and attaches the programs that report processes. Failure here never fails the run and
//! changes no count; it becomes a note.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::thread::PendingWork;
use crate::error::{Error, Result};
use crate::meter::{ProcessTracer, ProcessTracerConfig};
use crate::process::Attribution;

/// Whether local sockets are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) struct HasLocalSockets(pub bool);

/// A thread that loads and attaches the programs. The first attachment to a cgroup waits for all
/// CPUs, about 12 ms, so it happens in parallel with the rest of the set-up.
pub(in crate::commands) struct TracerLoading {
    attached: PendingWork<Result<ProcessTracer>>,
}

impl TracerLoading {
    /// Starts the thread. Without a cgroup, processes are not traced.
    pub(in crate::commands) fn start(
        config: ProcessTracerConfig,
        cgroup: Option<&Path>,
        local_sockets: HasLocalSockets,
    ) -> Result<Self> {
        let cgroup = cgroup.map(Path::to_owned);
        let load = move || {
            let none = || Error::other("trace", "processes", "the run has no cgroup");
            let cgroup = cgroup.ok_or_else(none)?;
            attach(ProcessTracer::load(config)?, &cgroup, local_sockets)
        };
        PendingWork::start("processes", load).map(|attached| Self { attached })
    }

    /// Waits until the programs are attached. If that fails, the attribution contains the reason.
    pub(in crate::commands) async fn finish(self, notes: &mut Vec<String>) -> (Option<ProcessTracer>, Attribution) {
        match self.attached.finish().await.flatten().map_err(|error| error.to_string()) {
            Ok(tracer) => {
                notes.extend(missing_programs(&tracer));
                (Some(tracer), Attribution::On)
            }
            Err(why) => {
                notes.push(format!("processes are not named: {why}"));
                (None, Attribution::Off(why))
            }
        }
    }
}

fn attach(mut tracer: ProcessTracer, cgroup: &Path, local_sockets: HasLocalSockets) -> Result<ProcessTracer> {
    let directory = File::open(cgroup).map_err(|error| Error::os("open", cgroup.display().to_string(), error))?;
    match local_sockets {
        HasLocalSockets(true) => tracer.attach(directory.as_fd())?,
        HasLocalSockets(false) => tracer.attach_without_local_sockets(directory.as_fd())?,
    }
    Ok(tracer)
}

/// Notes about the programs that are missing.
fn missing_programs(tracer: &ProcessTracer) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    let rejected = tracer.rejected().map(|(name, error)| (name, error.to_string()));
    let untried = tracer.untried().map(|name| (name, format!("the BTF of this kernel lacks what {name} reads")));
    for (name, error) in rejected.chain(untried) {
        let note = match name {
            "connect_unix" | "sendmsg_unix" => "unix sockets are not listed: this requires Linux 6.7 or later".into(),
            "sock_send_length" | "sock_recv_length" => {
                "a socket passed to another process is attributed to its creator: finding the sender requires Linux \
                 6.3 or later"
                    .into()
            }
            "sock_release" => format!("a port may be attributed to a process that has already closed it: {error}"),
            "sched_process_exit" => format!("in a long run, the list of processes may become full: {error}"),
            _ => format!("processes may be missing: {error}"),
        };
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}
