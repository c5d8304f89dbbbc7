//! Hints: plain sentences that the counts themselves suggest.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::{Exit, Interface, KnownFlow};
use crate::flow::{Direction, End, Flow};
use crate::process::{Processes, UnixPeer};

/// Ends that are named before the rest is only counted.
const NAMED: usize = 3;

/// The command asked its own localhost and was refused: most likely it wanted a service of the host's.
pub(super) fn localhost(loopback: &[KnownFlow], interface: &Interface) -> Option<String> {
    let refused = loopback.iter().map(|known| &known.flow).filter(|flow| {
        let failed = flow.failed();
        failed.refused + failed.unreachable > 0
    });
    let asked: BTreeSet<End> = refused.map(asked).filter(|end| end.addr.is_loopback()).collect();
    let first = asked.first()?;
    let named: Vec<String> =
        asked.iter().take(NAMED).map(|end| SocketAddr::from((end.addr, end.port)).to_string()).collect();
    let rest = asked.len().saturating_sub(NAMED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let way = way_out(interface, first.addr);
    Some(format!(
        "{}{more} refused the connection: that is the namespace's own localhost, the host's localhost services are not there{way}",
        named.join(", ")
    ))
}

/// A name that is not there, because abstract names belong to a network namespace: X11's and D-Bus's are the host's.
/// Nothing is said of a command that did well: who listened may only have gone before anybody looked.
pub(super) fn abstract_sockets(processes: &Processes, exit: Option<Exit>) -> Option<String> {
    if matches!(exit, None | Some(Exit::Code(0))) {
        return None;
    }
    let never_there = |peer: &&UnixPeer| peer.connections > 0 && peer.missing >= peer.connections;
    let failed = processes.unix.iter().filter(|peer| peer.path.starts_with('@')).filter(never_there);
    let missing: Vec<&UnixPeer> = failed.filter(|peer| !has_path(processes, peer)).collect();
    let named: Vec<&str> = missing.iter().take(NAMED).map(|peer| peer.path.as_str()).collect();
    let rest = missing.len().saturating_sub(NAMED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    (!missing.is_empty()).then(|| {
        format!(
            "nothing in the namespace had the name {}{more} when looked for: if the command failed over that, abstract unix sockets (of X11, D-Bus) are the host's network namespace's and are not there; sockets with a path are",
            named.join(", ")
        )
    })
}

/// Whoever asked for X11's abstract name then asks for the path of the same name.
fn has_path(processes: &Processes, peer: &UnixPeer) -> bool {
    let path = &peer.path[1..];
    path.starts_with('/') && processes.unix.iter().any(|other| other.path == path && other.failed < other.connections)
}

/// The end that did not open the flow.
fn asked(flow: &Flow) -> End {
    match flow.opened_by {
        Direction::Egress => flow.key.remote,
        Direction::Ingress => flow.key.local,
    }
}

fn way_out(interface: &Interface, asked: IpAddr) -> String {
    let Some(gateway) = interface.gateway.iter().find(|address| address.is_ipv4()) else { return String::new() };
    let only = if asked.is_ipv6() { " (127.0.0.1 only: there is no way to ::1)" } else { "" };
    if interface.host_loopback {
        format!("; use {gateway} for the host's 127.0.0.1{only}")
    } else {
        format!("; with --host-loopback the host's 127.0.0.1 is reachable as {gateway}{only}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(path: &str, connections: u64, missing: u64) -> UnixPeer {
        UnixPeer { path: path.to_owned(), connections, failed: missing, missing, processes: Vec::new() }
    }

    fn hint(unix: Vec<UnixPeer>) -> Option<String> {
        abstract_sockets(&Processes { unix, ..Processes::default() }, Some(Exit::Code(1)))
    }

    #[test]
    fn a_missing_abstract_name_is_explained() {
        let said = hint(vec![peer("@/tmp/dbus-x", 1, 1), peer("@own", 3, 0), peer("/run/gone.sock", 1, 1)]);
        assert!(said.is_some_and(|said| said.contains(" the name @/tmp/dbus-x when looked for: ")));
    }

    #[test]
    fn nothing_is_said_of_a_command_that_did_well_or_of_a_name_that_was_there_once() {
        let processes = Processes { unix: vec![peer("@gone", 1, 1)], ..Processes::default() };
        assert!(abstract_sockets(&processes, Some(Exit::Signal(6))).is_some());
        assert_eq!(abstract_sockets(&processes, Some(Exit::Code(0))), None);
        assert_eq!(abstract_sockets(&processes, None), None);
        assert_eq!(hint(vec![peer("@there", 2, 1)]), None);
    }

    #[test]
    fn nothing_is_said_where_the_path_of_the_same_name_was_reached() {
        let name = || peer("@/tmp/.X11-unix/X0", 1, 1);
        assert_eq!(hint(vec![name(), peer("/tmp/.X11-unix/X0", 1, 0)]), None);
        assert!(hint(vec![name(), peer("/tmp/.X11-unix/X0", 1, 1)]).is_some());
        assert_eq!(hint(vec![]), None);
    }
}
