//! Sockets: the processes that created and use them, the ports that they are bound to, and their
//! flows.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use smallvec::SmallVec;

use super::ReportedFlows;
use super::limits::{Capacity, HashMap, HashSet, IndexMap};
use super::socket::{ClosedEnds, Connects, KnownSocket, MAX_USERS, SocketClose, TimeSpan};
use crate::flow::{FlowKey, ObservationPoint, Protocol, TransportAddress};
use crate::process::{ClosedSocket, ProcessNumber, SocketOperation, SocketUse};

/// Cookies of sockets: usually one.
type Cookies = SmallVec<[u64; 1]>;

/// The sockets of a flow: on the loopback, usually one of each end.
pub(super) type FoundSockets<'a> = SmallVec<[&'a KnownSocket; 2]>;

/// Between the last packet of a connection and the close of its socket, if it is not the close of
/// the next connection on the same ports.
const CLOSE_DELAY_NS: u64 = 1_000_000_000;

/// Processes that are remembered for their sockets in other namespaces.
const MAX_ELSEWHERE: usize = 64;

/// All sockets of a session.
#[derive(Debug)]
pub(super) struct Sockets {
    /// The capacities for sockets and for flows. What exceeds them is counted.
    capacities: [Capacity; 2],
    /// Number of calls of [`Self::is_nearly_full`].
    tidied: u64,
    known: IndexMap<u64, KnownSocket>,
    /// Cookies of the sockets in `known` whose last connection failed with an errno.
    failing: BTreeSet<u64>,
    of_flows: HashMap<FlowKey, Cookies>,
    bound: HashMap<(u8, u16), BTreeSet<u64>>,
    /// Closed sockets of which no packet was linked to a flow.
    closed: HashMap<ClosedEnds, Cookies>,
    /// Closed sockets in order of their close, with [`Self::tidied`] at that time.
    closing: VecDeque<(u64, u64)>,
    /// Connections of removed sockets that had no packet.
    failed: Vec<(Connects, Option<i32>)>,
    /// Protocols and ports that removed sockets were bound to.
    forgotten: HashSet<(u8, u16)>,
    /// A socket in `bound` was removed.
    has_unbound: bool,
    /// Processes that used sockets in other network namespaces.
    pub elsewhere: BTreeSet<ProcessNumber>,
    /// Cookies of the session's network namespaces; empty if unknown.
    pub netns: Vec<u64>,
    /// Addresses of these namespaces; empty if unknown, or if all packets are theirs.
    pub own_addresses: Vec<IpAddr>,
    pub beyond: u64,
}

impl Sockets {
    pub(super) fn new(max: usize, max_flows: usize) -> Self {
        Self {
            capacities: [max, max_flows].map(Capacity::new),
            tidied: 0,
            known: IndexMap::default(),
            failing: BTreeSet::new(),
            of_flows: HashMap::default(),
            bound: HashMap::default(),
            closed: HashMap::default(),
            closing: VecDeque::new(),
            failed: Vec::new(),
            forgotten: HashSet::default(),
            has_unbound: false,
            elsewhere: BTreeSet::new(),
            netns: Vec::new(),
            own_addresses: Vec::new(),
            beyond: 0,
        }
    }

    pub(super) fn apply(
        &mut self,
        process: ProcessNumber,
        time_ns: u64,
        operation: SocketOperation,
        socket: &SocketUse,
    ) {
        let elsewhere = self.is_another(socket.netns);
        let is_here = self.netns.contains(&socket.netns);
        let Some(known) = self.known_mut(socket.cookie) else { return };
        known.protocol = socket.protocol.or(known.protocol);
        known.elsewhere |= elsewhere;
        known.is_here |= is_here;
        if known.elsewhere {
            if operation != SocketOperation::Created && self.elsewhere.len() < MAX_ELSEWHERE {
                self.elsewhere.insert(process);
            }
            return;
        }
        if matches!(operation, SocketOperation::Created | SocketOperation::Bound) {
            known.bound_ns.get_or_insert(time_ns);
        }
        let exceeds_limit = operation != SocketOperation::Created && !known.used_by(process);
        match operation {
            SocketOperation::Created => {
                known.maker = Some(process);
                // Raw and ICMP sockets receive everything of their protocol.
                if let Some(protocol) = known.protocol.filter(|protocol| !protocol.has_ports()) {
                    known.is_bound = true;
                    self.bound.entry((protocol.0, 0)).or_default().insert(socket.cookie);
                }
            }
            SocketOperation::Used | SocketOperation::SendFailed(_) => {}
            SocketOperation::Bound => {
                if let (Some(protocol), Some(address)) = (known.protocol, socket.address) {
                    known.is_bound = true;
                    self.bound.entry((protocol.0, address.port())).or_default().insert(socket.cookie);
                }
            }
            SocketOperation::Connect => {
                if let Some(address) = socket.address {
                    let (first_ns, count) =
                        known.connects.map_or((time_ns, 0), |connects| (connects.first_ns, connects.count));
                    known.connects = Some(Connects { first_ns, last_ns: time_ns, count: count + 1, address, process });
                    if known.errno.take().is_some() {
                        self.failing.remove(&socket.cookie);
                    }
                }
            }
        }
        self.beyond += u64::from(exceeds_limit);
    }

    pub(super) fn note_flow(&mut self, flow: FlowKey, cookie: u64) {
        if self.capacities[1].is_full(self.of_flows.len()) && !self.of_flows.contains_key(&flow) {
            if let Some(known) = self.known_mut(cookie) {
                known.has_packets = true;
            }
            self.beyond += 1;
            return;
        }
        let Some(known) = self.known_mut(cookie) else { return };
        known.has_packets = true;
        let ends = known.closed_ends().filter(|_| known.flows == 0);
        let cookies = self.of_flows.entry(flow).or_default();
        if cookies.contains(&cookie) {
            return;
        }
        if cookies.len() >= MAX_USERS {
            join_alike(cookies, &mut self.known);
        }
        if cookies.len() >= MAX_USERS {
            self.beyond += 1;
            return;
        }
        cookies.push(cookie);
        if let Some(known) = self.known.get_mut(&cookie) {
            known.flows += 1;
            known.was_linked = true;
        }
        ends.into_iter().for_each(|ends| remove_cookie(&mut self.closed, &ends, cookie));
    }

    /// Notes that a socket was closed. Sockets without a known user are not stored.
    pub(super) fn closed(&mut self, time_ns: u64, closed: &ClosedSocket) {
        let elsewhere = self.is_another(closed.netns);
        if let Some(known) = self.known.get_mut(&closed.cookie) {
            known.elsewhere |= elsewhere;
            known.protocol = closed.protocol.or(known.protocol);
            let here = |end: &TransportAddress| !known.elsewhere && end.port != 0;
            let (local, remote) = (closed.local.filter(here), closed.remote.filter(here));
            let ends = local.zip(remote);
            // It may have been reported closed before, with other ends.
            known.closed_ends().into_iter().for_each(|ends| remove_cookie(&mut self.closed, &ends, closed.cookie));
            known.closed = Some(SocketClose { time_ns, tidied: self.tidied, ends });
            self.closing.push_back((self.tidied, closed.cookie));
            if let Some(ends) = known.closed_ends().filter(|_| known.flows == 0) {
                let cookies = self.closed.entry(ends).or_default();
                if !cookies.contains(&closed.cookie) {
                    cookies.push(closed.cookie);
                }
            }
            // The kernel assigns a port to a socket that sends without one, and reports no event
            // for that.
            if let (Some(protocol), Some(local), None) = (known.protocol, local, remote) {
                known.is_bound = true;
                self.bound.entry((protocol.0, local.port)).or_default().insert(closed.cookie);
            }
        }
    }

    /// Notes the errno of a connection that failed. Returns true if the socket is known: its
    /// connection becomes a failed attempt unless packets report it, whose samples may arrive later
    /// than this event.
    pub(super) fn explain(&mut self, cookie: u64, errno: i32) -> bool {
        let known = self.known.get_mut(&cookie).filter(|known| known.protocol == Some(Protocol::TCP));
        let is_known = known.map(|known| known.errno = Some(errno)).is_some();
        if is_known {
            self.failing.insert(cookie);
        }
        is_known
    }

    fn known_mut(&mut self, cookie: u64) -> Option<&mut KnownSocket> {
        if self.capacities[0].is_full(self.known.len()) && !self.known.contains_key(&cookie) {
            self.beyond += 1;
            return None;
        }
        Some(self.known.entry(cookie).or_default())
    }

    /// Whether the cookie of a namespace (0 if not known) differs from the session's.
    fn is_another(&self, netns: u64) -> bool {
        netns != 0 && !self.netns.is_empty() && !self.netns.contains(&netns)
    }

    /// Whether the socket was last connected to this address.
    pub(super) fn is_connected_to(&self, cookie: u64, address: SocketAddr) -> bool {
        self.known.get(&cookie).and_then(|known| known.connects).is_some_and(|connects| connects.address == address)
    }

    /// Whether the socket is known to be in a network namespace that the target created.
    pub(super) fn is_elsewhere(&self, cookie: u64) -> bool {
        self.known.get(&cookie).is_some_and(|known| known.elsewhere)
    }

    /// Whether the socket is known to be in a network namespace of the session.
    pub(super) fn is_here(&self, cookie: u64) -> bool {
        self.known.get(&cookie).is_some_and(|known| known.is_here)
    }

    /// All sockets.
    pub(super) fn all(&self) -> impl Iterator<Item = &KnownSocket> {
        self.known.values()
    }

    /// The sockets whose last connection failed with an errno.
    pub(super) fn failing(&self) -> impl Iterator<Item = &KnownSocket> {
        self.failing.iter().filter_map(|cookie| self.known.get(cookie))
    }

    /// Sizes of the indexes.
    #[cfg(test)]
    pub(super) fn index_sizes(&self) -> [usize; 3] {
        [self.of_flows.len(), self.closed.len(), self.closing.len()]
    }

    /// The socket with this cookie.
    pub(super) fn get(&self, cookie: u64) -> Option<&KnownSocket> {
        self.known.get(&cookie)
    }

    /// The sockets that the packets of a flow came from or went to, those of the side that opened
    /// it first.
    pub(super) fn of_flow(&self, flow: &FlowKey) -> FoundSockets<'_> {
        let FlowKey { local, remote, .. } = *flow;
        let turned = FlowKey { local: remote, remote: local, ..*flow };
        // On the loopback the record does not contain which end opened it.
        let keys = [Some(flow), (flow.point == ObservationPoint::Loopback).then_some(&turned)];
        let cookies = keys.into_iter().flatten().filter_map(|key| self.of_flows.get(key)).flatten();
        let mut distinct: SmallVec<[u64; 2]> = SmallVec::new();
        cookies.for_each(|cookie| {
            if !distinct.contains(cookie) {
                distinct.push(*cookie);
            }
        });
        distinct.iter().filter_map(|cookie| self.known.get(cookie)).collect()
    }

    /// The sockets that were bound to the port of one end of a flow during its time; for protocols
    /// without ports, those of the protocol.
    pub(super) fn bound_to(&self, protocol: u8, end: TransportAddress, span: TimeSpan) -> FoundSockets<'_> {
        let cookies = self.bound.get(&(protocol, end.port)).into_iter().flatten();
        cookies.filter_map(|cookie| self.known.get(cookie)).filter(|known| known.is_of(span)).collect()
    }

    /// Whether an end of a flow on a link can be that of a socket of the session. A forwarded
    /// packet has neither end here, whatever ports are bound.
    pub(super) fn may_end_here(&self, end: TransportAddress) -> bool {
        let is_group = end.addr.is_multicast() || end.addr == IpAddr::V4(Ipv4Addr::BROADCAST);
        self.own_addresses.is_empty() || is_group || self.own_addresses.contains(&end.addr)
    }

    /// Whether any socket was bound to this port.
    pub(super) fn was_bound(&self, port: u16) -> bool {
        self.bound.keys().chain(&self.forgotten).any(|(_, bound)| *bound == port)
    }

    /// Whether a flow with this end may belong to a socket that was removed.
    pub(super) fn may_be_forgotten(&self, protocol: u8, end: TransportAddress) -> bool {
        self.forgotten.contains(&(protocol, end.port))
    }

    /// The closed sockets that had these ends during the time of the flow.
    pub(super) fn closed_between(
        &self,
        protocol: u8,
        local: TransportAddress,
        remote: TransportAddress,
        span: TimeSpan,
    ) -> FoundSockets<'_> {
        let cookies = self.closed.get(&(protocol, local, remote)).into_iter().flatten();
        let known = cookies.filter_map(|cookie| self.known.get(cookie));
        // A socket that is reported closed twice may have had other ends the first time.
        let has_ends = |known: &&KnownSocket| known.closed.is_some_and(|closed| closed.ends == Some((local, remote)));
        known.filter(|known| has_ends(known) && known.is_of(span)).collect()
    }

    /// A flow ended, and its users were stored: removes its links to sockets that it no longer
    /// needs, and those of the sockets that no flow needs.
    pub(super) fn forget_flow(&mut self, flow: &FlowKey, last_ns: u64) {
        let Some(cookies) = self.of_flows.get_mut(flow) else { return };
        let is_tcp = flow.protocol == Protocol::TCP.0;
        let mut unneeded = Cookies::new();
        let known = &mut self.known;
        cookies.retain(|cookie| {
            let Some(socket) = known.get_mut(cookie) else { return false };
            let closed = socket.closed.is_some_and(|closed| closed.time_ns <= last_ns.saturating_add(CLOSE_DELAY_NS));
            // An open socket of TCP is that of the next connection on the same ports, and that
            // connection may be over too.
            if is_tcp && (!closed || socket.is_connected_after(last_ns)) && !socket.is_unknown() {
                return true;
            }
            socket.flows -= 1;
            let was_processed = socket.closed.is_some_and(|closed| closed.tidied + 1 < self.tidied);
            if socket.flows == 0 && (was_processed || socket.is_unknown()) {
                unneeded.push(*cookie);
            }
            false
        });
        if cookies.is_empty() {
            self.of_flows.remove(flow);
        }
        unneeded.into_iter().for_each(|cookie| self.remove(cookie));
    }

    /// Whether there is little room left. Counts the calls: all packets of a socket that was closed
    /// before the previous call have been processed.
    pub(super) fn is_nearly_full(&mut self) -> bool {
        self.tidied += 1;
        self.capacities[0].is_due(self.known.len()) || self.capacities[1].is_due(self.of_flows.len())
    }

    /// Removes the sockets that were closed first and have no flow, as long as there are many.
    pub(super) fn tidy_closed(&mut self, reported: &dyn ReportedFlows) {
        if self.closing.len() > 2 * (self.known.len() + self.capacities[0].few()) {
            self.closing.retain(|(_, cookie)| self.known.contains_key(cookie));
        }
        while self.known.len() > self.capacities[0].few()
            && let Some(&(tidied, cookie)) = self.closing.front()
            && tidied + 1 < self.tidied
        {
            self.closing.pop_front();
            let Some(known) = self.known.get(&cookie) else { continue };
            let is_last_close = known.closed.is_some_and(|closed| closed.tidied == tidied);
            if is_last_close && known.flows == 0 && !self.is_wanted(known, reported) {
                self.remove(cookie);
            }
        }
    }

    /// Whether a reported flow, whose packets are not linked to a socket, has the ends of this one.
    fn is_wanted(&self, known: &KnownSocket, reported: &dyn ReportedFlows) -> bool {
        let is_wanted = |flow: &FlowKey| reported.contains(flow) && !self.of_flows.contains_key(flow);
        !known.was_linked && known.closed_ends().is_some_and(|ends| has_ends_of(ends, is_wanted))
    }

    /// Removes a socket without flows.
    fn remove(&mut self, cookie: u64) {
        let Some(known) = self.known.swap_remove(&cookie) else { return };
        if known.errno.is_some() {
            self.failing.remove(&cookie);
        }
        known.closed_ends().into_iter().for_each(|ends| remove_cookie(&mut self.closed, &ends, cookie));
        self.failed.extend(known.connects_without_a_packet());
        self.has_unbound |= known.is_bound;
    }

    /// The connections of removed sockets that had no packet.
    pub(super) fn take_failed(&mut self) -> Vec<(Connects, Option<i32>)> {
        std::mem::take(&mut self.failed)
    }

    /// Removes flows that are not reported, and closed sockets without a reported flow.
    pub(super) fn tidy(&mut self, reported: &dyn ReportedFlows) {
        let (of_flows, known) = (&mut self.of_flows, &mut self.known);
        let is_complete = reported.is_complete();
        of_flows.retain(|flow, cookies| {
            if is_complete && !reported.contains(flow) {
                cookies.drain(..).for_each(|cookie| unlink(known, cookie));
            }
            join_alike(cookies, known);
            !cookies.is_empty()
        });
        let has_ended = |known: &KnownSocket| {
            let was_processed = known.closed.is_some_and(|closed| closed.tidied + 1 < self.tidied);
            was_processed && known.flows == 0 && !self.is_wanted(known, reported)
        };
        let ended: Vec<u64> =
            self.known.iter().filter(|(_, known)| has_ended(known)).map(|(cookie, _)| *cookie).collect();
        ended.into_iter().for_each(|cookie| self.remove(cookie));
        let known = &self.known;
        self.closing.retain(|(_, cookie)| known.contains_key(cookie));
        self.capacities[0].was_tidied(self.known.len());
        self.capacities[1].was_tidied(self.of_flows.len());
    }

    /// Removes the ports of removed sockets.
    pub(super) fn tidy_ports(&mut self) {
        if !std::mem::take(&mut self.has_unbound) {
            return;
        }
        let (known, forgotten) = (&self.known, &mut self.forgotten);
        self.bound.retain(|port, cookies| {
            let before = cookies.len();
            cookies.retain(|cookie| known.contains_key(cookie));
            if cookies.len() < before {
                forgotten.insert(*port);
            }
            !cookies.is_empty()
        });
    }

    /// All processes that created, used or connected a socket.
    pub(super) fn processes(&self) -> impl Iterator<Item = ProcessNumber> {
        self.known.values().flat_map(KnownSocket::processes).chain(self.elsewhere.iter().copied())
    }
}

/// Removes unknown sockets, and closed sockets with the same users as another socket of the flow:
/// successive connections from one port add no information.
fn join_alike(cookies: &mut Cookies, known: &mut IndexMap<u64, KnownSocket>) {
    let mut redundant = Cookies::new();
    for (at, cookie) in cookies.iter().enumerate() {
        let Some(socket) = known.get(cookie) else {
            redundant.push(*cookie);
            continue;
        };
        let is_alike = |other: &KnownSocket| (other.maker, &other.users) == (socket.maker, &socket.users);
        let mut before = cookies[..at].iter().filter_map(|cookie| known.get(cookie));
        if socket.closed.is_some() && before.any(is_alike) {
            redundant.push(*cookie);
        }
    }
    if !redundant.is_empty() {
        cookies.retain(|cookie| !redundant.contains(cookie));
        redundant.into_iter().for_each(|cookie| unlink(known, cookie));
    }
}

/// A flow is no longer linked to this socket.
fn unlink(known: &mut IndexMap<u64, KnownSocket>, cookie: u64) {
    if let Some(socket) = known.get_mut(&cookie) {
        socket.flows -= 1;
    }
}

fn remove_cookie(closed: &mut HashMap<ClosedEnds, Cookies>, ends: &ClosedEnds, cookie: u64) {
    let Some(cookies) = closed.get_mut(ends) else { return };
    cookies.retain(|one| *one != cookie);
    if cookies.is_empty() {
        closed.remove(ends);
    }
}

/// Whether `contains` holds for a flow between these ends, on the link or the loopback.
fn has_ends_of((protocol, local, remote): ClosedEnds, contains: impl Fn(&FlowKey) -> bool) -> bool {
    let flow = |point| FlowKey { point, protocol, fragment: false, local, remote };
    contains(&flow(ObservationPoint::Link)) || contains(&flow(ObservationPoint::Loopback))
}
