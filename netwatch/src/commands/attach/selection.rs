//! Which sockets `--pid-only` meters: those of some processes in a cgroup with others.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

use crate::error::{Error, Result};
use crate::host::existing::ExistingNamespace;
use crate::host::netlink::Netlink;
use crate::host::sockets::{self, ExistingSocket};
use crate::host::sysctl::netns_cookie;
use crate::meter::ProcessSelection;
use crate::proc::stat::ProcStat;

/// The PID namespace of this process.
const PID_NAMESPACE: &str = "/proc/self/ns/pid";
/// The inode of the initial PID namespace (`PROC_PID_INIT_INO`, linux/proc_ns.h): the programs in
/// the kernel compare the numbers that processes have there.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Fails outside the initial PID namespace, in which processes have other numbers.
pub(super) fn require_initial_pids() -> Result<()> {
    let data = fs::metadata(PID_NAMESPACE).map_err(|error| Error::os("read", PID_NAMESPACE, error))?;
    check_pid_namespace(data.ino())
}

fn check_pid_namespace(inode: u64) -> Result<()> {
    if inode == INITIAL_PID_NAMESPACE {
        return Ok(());
    }
    let cause = "netwatch runs in a PID namespace of its own, in which processes have other numbers";
    let hint = "run it in the PID namespace of the machine, as with docker run --pid=host";
    Err(Error::other("select", "processes", cause).hint(hint))
}

/// Selects the processes in `tree`, and the sockets that they have in this cgroup. Those that a
/// process creates meanwhile are selected by the programs, or found by the next look. Returns the
/// number of sockets that nothing lists, because they are neither bound nor connected.
pub(super) fn select(
    cgroup: BorrowedFd<'_>,
    name: &str,
    tree: impl Fn() -> HashSet<u32>,
    selection: &mut ProcessSelection,
) -> Result<usize> {
    selection.attach(cgroup, name)?;
    // Start times by number: a number may be used again.
    let mut known = HashMap::new();
    let mut existing = HashMap::new();
    loop {
        let found = tree().into_iter().filter_map(|pid| Some((pid, ProcStat::of(pid)?.start_ticks)));
        let new: Vec<(u32, u64)> = found.filter(|(pid, start)| known.get(pid) != Some(start)).collect();
        if new.is_empty() {
            break;
        }
        for (pid, start) in new {
            // Before the programs select what it creates.
            existing.insert(pid, sockets::of_process(pid));
            selection.add_process(pid)?;
            if !is_running(pid, start) {
                selection.remove_process(pid)?;
            }
            known.insert(pid, start);
        }
    }
    let found = sockets_of(&known.keys().copied().collect())?;
    let listed = found.iter().map(|(socket, _)| socket.inode).collect();
    let owners = sockets::owners(&listed);
    let is_theirs = |socket: &ExistingSocket| {
        owners.get(&socket.inode).is_some_and(|owners| owners.iter().any(|pid| known.contains_key(pid)))
    };
    let theirs = found.iter().map(|(socket, _)| socket).filter(|socket| is_theirs(socket));
    theirs.map(|socket| socket.cookie).try_for_each(|cookie| selection.add_socket(cookie))?;
    let unlisted = existing.into_iter().flat_map(|(pid, before)| {
        let still = sockets::of_process(pid);
        before.into_iter().filter(move |inode| still.contains(inode))
    });
    Ok(unlisted.filter(|inode| !listed.contains(inode)).collect::<HashSet<u32>>().len())
}

/// The sockets in the network namespaces of these processes, each with the cookie of its namespace.
pub(super) fn sockets_of(processes: &HashSet<u32>) -> Result<Vec<(ExistingSocket, u64)>> {
    let mut found = Vec::new();
    for namespace in namespaces(processes) {
        let read = || Ok::<_, Error>((sockets::all(&mut Netlink::sock_diag()?)?, netns_cookie()?));
        let (all, cookie) = namespace.run_in(read)??;
        found.extend(all.into_iter().map(|socket| (socket, cookie)));
    }
    Ok(found)
}

/// The network namespaces of these processes. Processes that have ended meanwhile are left out.
fn namespaces(processes: &HashSet<u32>) -> Vec<ExistingNamespace> {
    let mut found: Vec<ExistingNamespace> = Vec::new();
    for pid in processes {
        let Ok(namespace) = ExistingNamespace::open(&format!("/proc/{pid}/ns/net")) else { continue };
        if !found.iter().any(|known| known.is_same(&namespace).unwrap_or(false)) {
            found.push(namespace);
        }
    }
    found
}

/// Whether a thread of this process has not begun to exit: the programs observe its end.
fn is_running(pid: u32, start: u64) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut threads = tasks.filter_map(|task| ProcStat::read(&task.path().join("stat")));
    ProcStat::of(pid).is_some_and(|stat| stat.start_ticks == start) && threads.any(|thread| !thread.is_exiting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_selected_in_the_initial_pid_namespace_only() {
        assert!(check_pid_namespace(INITIAL_PID_NAMESPACE).is_ok());
        let error = check_pid_namespace(4_026_532_000).expect_err("another one").to_string();
        assert!(error.contains("PID namespace"), "{error}");
    }

    #[test]
    fn a_process_that_has_exited_or_another_one_with_its_number_does_not_run() {
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let start = ProcStat::of(child.id()).expect("not waited for").start_ticks;
        let own = ProcStat::of(std::process::id()).expect("this process").start_ticks;
        assert!(is_running(std::process::id(), own) && !is_running(std::process::id(), own + 1));
        while is_running(child.id(), start) {
            std::thread::yield_now();
        }
        assert_eq!(ProcStat::of(child.id()).map(|stat| stat.start_ticks), Some(start), "it is a zombie");
        child.wait().expect("waited");
    }
}
