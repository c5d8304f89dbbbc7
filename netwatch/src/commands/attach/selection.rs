//! Which sockets `--pid-only` meters: those of some processes in a cgroup with others.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
    let listed = add_sockets(&known.keys().copied().collect(), selection)?;
    let unlisted = existing.into_iter().flat_map(|(pid, before)| {
        let still = sockets::of_process(pid);
        before.into_iter().filter(move |inode| still.contains(inode))
    });
    Ok(unlisted.filter(|inode| !listed.contains(inode)).collect::<HashSet<u32>>().len())
}

/// Selects the connections that came before the classifier was attached and after [`select`] listed
/// the sockets: a listening socket marks what it accepts from its first metered packet on. To be
/// called when the classifier is attached.
pub(super) fn select_later(tree: &HashSet<u32>, selection: &ProcessSelection) -> Result<()> {
    add_sockets(tree, selection).map(drop)
}

/// Selects the sockets that these processes have or will accept. Returns the inodes of all sockets
/// in their network namespaces.
fn add_sockets(processes: &HashSet<u32>, selection: &ProcessSelection) -> Result<HashSet<u32>> {
    let found = sockets_of(processes)?;
    let listed = found.iter().map(|(socket, _)| socket.inode).filter(|inode| *inode != 0).collect();
    let owners = sockets::owners(&listed);
    let is_theirs = |socket: &ExistingSocket| {
        owners.get(&socket.inode).is_some_and(|owners| owners.iter().any(|pid| processes.contains(pid)))
    };
    of_processes(&found, is_theirs).into_iter().try_for_each(|cookie| selection.add_socket(cookie))?;
    Ok(listed)
}

/// The cookies of sockets of some processes, and of the connections that wait until a socket of
/// these accepts them. The kernel lists no relation between the two but the address.
fn of_processes(found: &[(ExistingSocket, u64)], is_theirs: impl Fn(&ExistingSocket) -> bool) -> Vec<u64> {
    // Several sockets can listen at one address (SO_REUSEPORT).
    let mut listening: HashMap<(SocketAddr, u64), bool> = HashMap::new();
    for (socket, netns) in found.iter().filter(|(socket, _)| socket.is_listening) {
        *listening.entry((socket.local, *netns)).or_default() |= is_theirs(socket);
    }
    let is_selected = |(socket, netns): &&(ExistingSocket, u64)| {
        if socket.inode != 0 {
            return is_theirs(socket);
        }
        let any: IpAddr =
            if socket.local.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let at = |address| listening.get(&(address, *netns)).copied();
        at(socket.local).or_else(|| at(SocketAddr::new(any, socket.local.port()))).unwrap_or(false)
    };
    found.iter().filter(is_selected).map(|(socket, _)| socket.cookie).collect()
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
    fn connections_that_wait_belong_to_the_listening_socket() {
        let socket = |inode: u32, local: &str, is_listening: bool| ExistingSocket {
            cookie: 0,
            protocol: 6,
            local: local.parse().expect("an address"),
            is_connected: !is_listening,
            is_listening,
            inode,
            cgroup: None,
        };
        // The sockets with inodes below 10 are theirs.
        let mut found = vec![
            (socket(1, "0.0.0.0:80", true), 5),
            (socket(11, "127.0.0.1:80", true), 5),
            (socket(2, "[::]:81", true), 5),
            (socket(3, "10.0.0.1:9", false), 5),
            (socket(12, "10.0.0.1:80", false), 5),
            (socket(13, "[::1]:90", true), 5),
            (socket(4, "[::1]:90", true), 5),
        ];
        for (cookie, (listed, _)) in (1..).zip(&mut found) {
            listed.cookie = cookie;
        }
        let waiting = [
            (20, "10.0.0.1:80", 5),
            (21, "127.0.0.1:80", 5),
            (22, "[::ffff:10.0.0.1]:81", 5),
            (23, "10.0.0.1:81", 5),
            (24, "[::1]:90", 5),
            (25, "10.0.0.1:80", 6),
        ];
        let waiting =
            waiting.map(|(cookie, local, netns)| (ExistingSocket { cookie, ..socket(0, local, false) }, netns));
        found.extend(waiting);
        assert_eq!(of_processes(&found, |socket| socket.inode < 10), [1, 3, 4, 7, 20, 22, 24]);
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
