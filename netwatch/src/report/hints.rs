//! Hints: plain sentences that the counts themselves suggest.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::{Interface, KnownFlow};
use crate::flow::{Direction, End, Flow};

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
