//! What the target has already when netwatch attaches: its sockets and their processes, as events
//! like those of the programs that report later ones.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;

use super::follow::ExistingSockets;
use crate::flow::Protocol;
use crate::host::sockets::{ExistingSocket, owners};
use crate::process::{ProcessAction, ProcessEvent, SocketOperation, SocketUse, ThreadName};

/// The events of the sockets of the targets, and the number of sockets that processes of the
/// targets have and that are not metered. `time_ns` is the time at which netwatch attached.
pub(super) fn existing(found: &ExistingSockets, time_ns: u64) -> (Vec<ProcessEvent>, usize) {
    let ExistingSockets { metered, others, processes, are_selected } = found;
    let all = metered.iter().map(|(socket, _)| socket).chain(others);
    let mut owners = owners(&all.map(|socket| socket.inode).collect());
    if *are_selected {
        owners.values_mut().for_each(|owners| owners.retain(|pid| processes.contains(pid)));
    }
    let is_theirs = |socket: &&ExistingSocket| {
        owners.get(&socket.inode).is_some_and(|owners| owners.iter().any(|pid| processes.contains(pid)))
    };
    (of_sockets(metered, &owners, &owner_of, time_ns), others.iter().filter(is_theirs).count())
}

/// The user and the name of a process; `None` if it has ended.
fn owner_of(pid: u32) -> Option<(u32, ThreadName)> {
    let uid = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some((uid, ThreadName::from(comm.trim_end_matches('\n'))))
}

/// Each socket with the cookie of its network namespace.
fn of_sockets(
    sockets: &[(ExistingSocket, u64)],
    owners: &HashMap<u32, Vec<u32>>,
    owner_of: &impl Fn(u32) -> Option<(u32, ThreadName)>,
    time_ns: u64,
) -> Vec<ProcessEvent> {
    let mut events = Vec::new();
    for (socket, netns) in sockets {
        for pid in owners.get(&socket.inode).into_iter().flatten() {
            let Some((uid, comm)) = owner_of(*pid) else { continue };
            let ExistingSocket { cookie, protocol, local, is_connected, .. } = *socket;
            let event = |operation, address| ProcessEvent {
                time_ns,
                start_ns: 0,
                pid: *pid,
                tid: *pid,
                program: ProcessEvent::UNKNOWN_PROGRAM,
                uid,
                comm,
                action: ProcessAction::SocketUse(
                    operation,
                    SocketUse { cookie, netns: *netns, protocol: Some(Protocol(protocol)), address },
                ),
            };
            // All connections of a server have its port: they are known by their cookies only.
            events.push(match is_connected || local.port() == 0 {
                true => event(SocketOperation::Used, None),
                false => event(SocketOperation::Bound, Some(local)),
            });
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_used_and_other_sockets_are_bound() {
        let socket = |inode: u32, port: u16, is_connected| ExistingSocket {
            cookie: inode.into(),
            protocol: 6,
            local: ([127, 0, 0, 1], port).into(),
            is_connected,
            is_listening: false,
            inode,
            cgroup: None,
        };
        let sockets = [(socket(1, 80, false), 5), (socket(2, 80, true), 5), (socket(3, 81, false), 5)];
        let owners = HashMap::from([(1, vec![7, 8, 9]), (2, vec![8])]);
        // Process 9 has ended.
        let owner_of = |pid: u32| (pid != 9).then(|| (pid + 1000, ThreadName::from("nginx")));
        let events = of_sockets(&sockets, &owners, &owner_of, 9);
        let seen: Vec<_> = events
            .iter()
            .map(|event| {
                let ProcessAction::SocketUse(operation, used) = event.action else { panic!("{event:?}") };
                (event.pid, event.uid, operation, used.cookie, used.address.map(|address| address.port()))
            })
            .collect();
        let (bound, used) = (SocketOperation::Bound, SocketOperation::Used);
        assert_eq!(seen, [(7, 1007, bound, 1, Some(80)), (8, 1008, bound, 1, Some(80)), (8, 1008, used, 2, None)]);
    }
}
