//! Who it was, beside a run: loads the programs that tell, takes in what they have to say, and looks at /proc where they said nothing. That
//! it cannot be had costs no count and ends no run; it is said.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use crate::error::{Error, Result};
use crate::flow::{FlowKey, FlowTable, Traffic};
use crate::meter::{Notification, ProcessTracer, ProcessTracerConfig};
use crate::process::{
    Attribution, FlowToAttribute, FlowUsers, Image, LiveProcess, Origin, PacketCoverage, Processes as Known,
    ReportedFlows, SystemView, Trace, TraceResult,
};

/// The programs, being loaded and attached in a thread of their own: the first attachment to a cgroup waits for all CPUs, some 12 ms.
pub(super) struct Loading {
    thread: JoinHandle<Result<ProcessTracer>>,
    cmdline: bool,
}

impl Loading {
    /// For the run's cgroup; without one, nobody is looked for.
    pub(super) fn start(config: ProcessTracerConfig, cgroup: Option<&Path>) -> Result<Self> {
        let (cmdline, cgroup) = (config.cmdline, cgroup.map(Path::to_owned));
        let load = move || {
            let none = || Error::said("look for", "processes", "the run has no cgroup of its own");
            let cgroup = cgroup.ok_or_else(none)?;
            attach(ProcessTracer::load(config)?, &cgroup)
        };
        let thread = thread::Builder::new().name("processes".into()).spawn(load);
        thread.map(|thread| Self { thread, cmdline }).map_err(|error| Error::os("start thread", "processes", error))
    }

    /// Waits until they are attached. `netns` is the cookie of the run's network namespace.
    pub(super) fn finish(self, netns: u64, notes: &mut Vec<String>) -> Processes {
        let attached = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let look = Proc { cmdline: self.cmdline, ..Proc::default() };
        match attached.map_err(|error| error.to_string()) {
            Ok(probe) => {
                notes.extend(missing(&probe));
                Processes { probe: Some(probe), trace: Trace::of_namespace(Some(netns)), off: String::new(), look }
            }
            Err(why) => {
                notes.push(format!("processes are not named: {why}"));
                Processes { probe: None, trace: Trace::default(), off: why, look }
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
    let refused = probe.refused().map(|(name, error)| (name, error.to_string()));
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

/// Everything that is known of a run's processes while it goes on.
pub(super) struct Processes {
    probe: Option<ProcessTracer>,
    trace: Trace,
    /// Why nobody is looked for.
    off: String,
    look: Proc,
}

impl Processes {
    /// Takes in what happened.
    pub(super) fn fetch(&mut self) {
        let Some(probe) = &mut self.probe else { return };
        let (trace, look) = (&mut self.trace, &mut self.look);
        look.names = None;
        probe.poll(&mut |event| trace.apply(event, look));
    }

    /// The command's process is in its namespace: from now on it can be seen which unix sockets are there.
    pub(super) fn begin(&mut self, command: i32) {
        self.look.unix = File::open(format!("/proc/{command}/net/unix")).ok();
    }

    /// Nothing more will come. The namespace is held no longer.
    pub(super) fn end(&mut self) {
        self.look.unix = None;
    }

    /// Takes in whose packet it was.
    pub(super) fn note(&mut self, notice: &Notification) {
        let (traffic, socket) = match notice {
            Notification::NewFlow(flow) => (flow.traffic, flow.socket),
            Notification::SocketChanged(sender) => (sender.traffic, Some(sender.socket)),
            Notification::Sample(_) => return,
        };
        if let (Traffic::Flow(key), Some(socket)) = (traffic, socket) {
            self.trace.note_flow(key, socket);
        }
    }

    /// How long the next [`Self::fetch`] may wait.
    pub(super) fn next_fetch(&self) -> Duration {
        self.probe.as_ref().map_or(Duration::MAX, ProcessTracer::next_poll)
    }

    /// Who used the table's flows.
    pub(super) fn result(
        &self,
        command: Option<u32>,
        table: &FlowTable,
        silence: PacketCoverage,
    ) -> Result<TraceResult> {
        let Some(probe) = &self.probe else {
            let processes = Known { attribution: Attribution::Off(self.off.clone()), ..Known::default() };
            return Ok(TraceResult { processes, users: FlowUsers::default(), attempts: Vec::new() });
        };
        let flows = table.iter().map(|flow| FlowToAttribute {
            key: flow.key,
            opened_by: flow.opened_by,
            first_ns: flow.first_seen_ns,
            last_ns: flow.last_seen_ns,
        });
        let mut result = self.trace.result(command, flows, silence);
        let (kernel, lost) = (probe.lost()?, &mut result.processes.lost);
        (lost.events, lost.sockets, lost.unknown) = (kernel.events, kernel.sockets, kernel.unknown);
        lost.beyond += kernel.beyond;
        Ok(result)
    }

    /// Makes room where there is little left. To be called after each look at the counters, so that a socket's packets were heard of.
    pub(super) fn tidy(&mut self, table: &FlowTable) {
        self.trace.tidy(&FlowsOf(table), std::iter::empty());
    }
}

/// The flows of a table.
struct FlowsOf<'t>(&'t FlowTable);

impl ReportedFlows for FlowsOf<'_> {
    fn contains(&self, flow: &FlowKey) -> bool {
        self.0.has(flow)
    }

    fn is_complete(&self) -> bool {
        self.0.is_full()
    }
}

/// /proc, for what no event told.
#[derive(Default)]
struct Proc {
    /// Whether arguments are wanted.
    cmdline: bool,
    /// The namespace's unix sockets: a process that asked for one may be gone when its event is heard of.
    unix: Option<File>,
    /// The abstract names that are there, once they were asked for: read at most once for all events of one fetch.
    names: Option<HashSet<String>>,
}

impl SystemView for Proc {
    fn process(&mut self, pid: u32) -> Option<LiveProcess> {
        let folder = format!("/proc/{pid}");
        let stat = fs::read_to_string(format!("{folder}/stat")).ok()?;
        let (name, fields) = stat.rsplit_once(')')?;
        let comm = name.split_once('(')?.1.to_owned();
        // The first of these is the third of all (proc(5)).
        let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
        let origin = Origin { start_ns: unix_ns(field(22)?)?, ppid: u32::try_from(field(4)?).ok()?, maker: 0 };
        let exe = fs::read_link(format!("{folder}/exe")).ok().map(|path| path.to_string_lossy().into_owned());
        let arguments = self.cmdline.then(|| fs::read(format!("{folder}/cmdline")).ok()).flatten();
        let is_unreadable = exe.is_none() || self.cmdline && arguments.is_none();
        let (cmdline, cmdline_cut) = arguments.map_or((None, false), |bytes| arguments_of(&bytes));
        Some(LiveProcess { origin, image: Image { comm, exe, cmdline, cmdline_cut, is_unreadable } })
    }

    fn is_bound(&mut self, name: &str) -> Option<bool> {
        if self.names.is_none() {
            let file = self.unix.as_mut()?;
            let mut table = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut table)).ok()?;
            self.names = Some(abstract_names(&table).collect());
        }
        // Names may end in zeros, which the kernel shows as `@`.
        self.names.as_ref().map(|names| names.contains(name.trim_end_matches('@')))
    }
}

/// The abstract names in /proc/net/unix (proc(5)): what follows seven columns and a space, to the end of the line. A name may hold spaces, and bytes
/// that are no text, which events replace in the same way.
fn abstract_names(table: &[u8]) -> impl Iterator<Item = String> {
    let lines = table.split(|byte| *byte == b'\n').skip(1);
    lines.filter_map(|line| {
        let mut rest = line;
        for _ in 0..7 {
            let column = rest.trim_ascii_start();
            rest = &column[column.iter().position(|byte| *byte == b' ')?..];
        }
        let name = rest.strip_prefix(b" ").filter(|name| name.starts_with(b"@"))?;
        Some(String::from_utf8_lossy(name).trim_end_matches('@').to_owned())
    })
}

/// As many bytes as an exec tells.
fn arguments_of(bytes: &[u8]) -> (Option<Vec<String>>, bool) {
    const KEPT: usize = 1024;
    let kept = &bytes[..bytes.len().min(KEPT)];
    let words = kept.strip_suffix(&[0]).unwrap_or(kept).split(|byte| *byte == 0);
    let words = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    ((!kept.is_empty()).then_some(words), bytes.len() > KEPT)
}

/// Clock ticks since the machine started, in nanoseconds since the Unix epoch.
fn unix_ns(ticks: u64) -> Option<u64> {
    let read = |clock: ClockId| clock_gettime(clock).ok().map(|time| Duration::from(time).as_nanos() as u64);
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let boot = read(ClockId::CLOCK_REALTIME)? - read(ClockId::CLOCK_BOOTTIME)?;
    Some(boot + ticks * (1_000_000_000 / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    #[test]
    fn a_living_process_is_found_and_a_dead_one_is_not() {
        let mut look = Proc { cmdline: true, ..Proc::default() };
        let found = look.process(std::process::id()).expect("alive");
        assert_eq!(found.image.cmdline, Some(std::env::args().collect()));
        assert_eq!(found.origin.ppid, std::os::unix::process::parent_id());
        assert_eq!(found.image.exe.map(Into::into), std::env::current_exe().ok());
        let now = super::super::live::now_ns();
        assert!(found.origin.start_ns < now && found.origin.start_ns > now - 3_600_000_000_000);
        assert_eq!(look.process(u32::MAX), None);
    }

    #[test]
    fn abstract_names_are_looked_up_in_the_namespace() {
        let mut look = Proc { unix: File::open("/proc/self/net/unix").ok(), ..Proc::default() };
        let mut name = format!("netwatch-test {} ", std::process::id()).into_bytes();
        name.extend([0xff, b'x', 0, 0]);
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let listener = UnixListener::bind_addr(&address).expect("bound");
        // As an event tells it.
        let told = format!("@{}", String::from_utf8_lossy(&name).trim_end_matches('\0'));
        assert_eq!(look.is_bound(&told), Some(true));
        drop(listener);
        assert_eq!(look.is_bound(&told), Some(true), "read once");
        look.names = None;
        assert_eq!(look.is_bound(&told), Some(false));
    }
}
