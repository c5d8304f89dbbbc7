//! Sockets: who made them, who uses them, where they are bound, and of which flows they are.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;

use super::ReportedFlows;
use super::failed::Times;
use super::room::Room;
use crate::flow::{End, FlowKey, ObservationPoint, Protocol};
use crate::process::{ClosedSocket, ProcessNumber, SocketOperation, SocketUse};

/// Processes that are kept of one socket.
const MAX_USERS: usize = 16;

/// ProcessAction is known of a socket.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub maker: Option<ProcessNumber>,
    /// In the order in which they were first seen.
    pub users: Vec<ProcessNumber>,
    pub protocol: Option<Protocol>,
    /// Connections that were tried.
    pub tried: Option<Tried>,
    /// A packet of it was seen.
    has_packets: bool,
    /// It is of a namespace that the command made: none of its packets is seen here.
    pub elsewhere: bool,
    /// Why its last connection came to nothing.
    errno: Option<i32>,
    /// When it was bound first; where nothing told of that, when it was made.
    bound_ns: Option<u64>,
    closed: Option<WhenClosed>,
}

/// ProcessAction is known of a socket from its end.
#[derive(Debug, Clone, Copy)]
struct WhenClosed {
    time_ns: u64,
    /// How often it was tidied up before.
    tidied: u64,
    /// Its own end and the other one.
    ends: Option<(End, End)>,
}

/// From the first packet of a flow to its last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub first_ns: u64,
    pub last_ns: u64,
}

/// A packet's time may be a tick behind.
const TICK_NS: u64 = 20_000_000;

/// Connections that a socket was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tried {
    pub first_ns: u64,
    pub last_ns: u64,
    pub count: u64,
    pub address: SocketAddr,
    pub process: ProcessNumber,
}

impl Tried {
    pub(super) fn times(&self) -> Times {
        Times { first_ns: self.first_ns, last_ns: self.last_ns, count: self.count }
    }
}

impl Known {
    /// It was bound and not closed yet while the flow was there.
    pub(super) fn is_of(&self, span: Span) -> bool {
        let was_closed = self.closed.is_some_and(|closed| closed.time_ns.saturating_add(TICK_NS) < span.first_ns);
        !was_closed && self.bound_ns.is_none_or(|bound_ns| bound_ns <= span.last_ns.saturating_add(TICK_NS))
    }

    /// All processes that had to do with it.
    fn processes(&self) -> impl Iterator<Item = ProcessNumber> {
        let tried = self.tried.map(|tried| tried.process);
        self.users.iter().copied().chain(self.maker).chain(tried)
    }

    /// False if there are too many already.
    fn used_by(&mut self, process: ProcessNumber) -> bool {
        let is_known = self.users.contains(&process);
        if !is_known && self.users.len() < MAX_USERS {
            self.users.push(process);
            return true;
        }
        is_known
    }

    /// TCP was to connect, and not a packet came of it; with the errno, if that is known.
    pub(super) fn came_to_nothing(&self) -> Option<(Tried, Option<i32>)> {
        let is_tcp = self.protocol == Some(Protocol::TCP);
        self.tried.filter(|_| is_tcp && !self.has_packets).map(|tried| (tried, self.errno))
    }
}

#[derive(Debug)]
pub(super) struct Sockets {
    /// So many sockets and flows are kept; further ones are counted.
    rooms: [Room; 2],
    /// How often what is over was looked for, or need not be.
    tidied: u64,
    known: HashMap<u64, Known>,
    of_flows: HashMap<FlowKey, Vec<u64>>,
    bound: HashMap<(u8, u16), BTreeSet<u64>>,
    /// ClosedSocket sockets by protocol, their own end and the other one.
    closed: HashMap<(u8, End, End), Vec<u64>>,
    /// Protocols and ports that sockets were bound to of which nothing is kept any more.
    forgotten: HashSet<(u8, u16)>,
    /// The cookie of the run's network namespace, where it is known.
    pub netns: Option<u64>,
    pub beyond: u64,
}

impl Sockets {
    pub(super) fn new(max: usize, max_flows: usize) -> Self {
        Self {
            rooms: [max, max_flows].map(Room::new),
            tidied: 0,
            known: HashMap::new(),
            of_flows: HashMap::new(),
            bound: HashMap::new(),
            closed: HashMap::new(),
            forgotten: HashSet::new(),
            netns: None,
            beyond: 0,
        }
    }

    pub(super) fn step(&mut self, process: ProcessNumber, time_ns: u64, step: SocketOperation, socket: &SocketUse) {
        let elsewhere = self.is_another(socket.netns);
        let Some(known) = self.known_mut(socket.cookie) else { return };
        known.protocol = socket.protocol.or(known.protocol);
        known.elsewhere |= elsewhere;
        if known.elsewhere {
            return;
        }
        if matches!(step, SocketOperation::Created | SocketOperation::Bound) {
            known.bound_ns.get_or_insert(time_ns);
        }
        let is_one_too_many = step != SocketOperation::Created && !known.used_by(process);
        match step {
            SocketOperation::Created => {
                known.maker = Some(process);
                // Raw and ICMP sockets are bound to all that is of their protocol.
                if let Some(protocol) = known.protocol.filter(|protocol| !protocol.has_ports()) {
                    self.bound.entry((protocol.0, 0)).or_default().insert(socket.cookie);
                }
            }
            SocketOperation::Used | SocketOperation::SendFailed(_) => {}
            SocketOperation::Bound => {
                if let (Some(protocol), Some(address)) = (known.protocol, socket.address) {
                    self.bound.entry((protocol.0, address.port())).or_default().insert(socket.cookie);
                }
            }
            SocketOperation::Connect => {
                if let Some(address) = socket.address {
                    let (first_ns, count) = known.tried.map_or((time_ns, 0), |tried| (tried.first_ns, tried.count));
                    known.tried = Some(Tried { first_ns, last_ns: time_ns, count: count + 1, address, process });
                    known.errno = None;
                }
            }
        }
        self.beyond += u64::from(is_one_too_many);
    }

    pub(super) fn note_flow(&mut self, flow: FlowKey, cookie: u64) {
        if let Some(known) = self.known_mut(cookie) {
            known.has_packets = true;
        }
        if self.rooms[1].is_full(self.of_flows.len()) && !self.of_flows.contains_key(&flow) {
            self.beyond += 1;
            return;
        }
        let cookies = self.of_flows.entry(flow).or_default();
        if cookies.contains(&cookie) {
            return;
        }
        if cookies.len() >= MAX_USERS {
            join_alike(cookies, &self.known);
        }
        if cookies.len() < MAX_USERS {
            cookies.push(cookie);
        } else {
            self.beyond += 1;
        }
    }

    /// Nobody has it any more. Of one that nobody is known to have used, nothing is kept.
    pub(super) fn closed(&mut self, time_ns: u64, closed: &ClosedSocket) {
        let elsewhere = self.is_another(closed.netns);
        if let Some(known) = self.known.get_mut(&closed.cookie) {
            known.elsewhere |= elsewhere;
            known.protocol = closed.protocol.or(known.protocol);
            let here = |end: &End| !known.elsewhere && end.port != 0;
            let (local, remote) = (closed.local.filter(here), closed.remote.filter(here));
            let ends = local.zip(remote);
            known.closed = Some(WhenClosed { time_ns, tidied: self.tidied, ends });
            if let (Some(protocol), Some((local, remote))) = (known.protocol, ends) {
                let cookies = self.closed.entry((protocol.0, local, remote)).or_default();
                if !cookies.contains(&closed.cookie) {
                    cookies.push(closed.cookie);
                }
            }
            // The kernel gives a port to whoever sends without having one, and nothing tells of it.
            if let (Some(protocol), Some(local), None) = (known.protocol, local, remote) {
                self.bound.entry((protocol.0, local.port)).or_default().insert(closed.cookie);
            }
        }
    }

    /// The socket's connection failed with an errno. True if that is noted: it is an attempt unless packets tell of it, and those may be
    /// heard of later than the call.
    pub(super) fn explain(&mut self, cookie: u64, errno: i32) -> bool {
        let known = self.known.get_mut(&cookie).filter(|known| known.protocol == Some(Protocol::TCP));
        known.map(|known| known.errno = Some(errno)).is_some()
    }

    fn known_mut(&mut self, cookie: u64) -> Option<&mut Known> {
        if self.rooms[0].is_full(self.known.len()) && !self.known.contains_key(&cookie) {
            self.beyond += 1;
            return None;
        }
        Some(self.known.entry(cookie).or_default())
    }

    /// Whether a namespace's cookie, 0 where it is not told, is another than the run's.
    fn is_another(&self, netns: u64) -> bool {
        netns != 0 && self.netns.is_some_and(|ours| ours != netns)
    }

    /// It is known to be of a namespace that the command made.
    pub(super) fn is_elsewhere(&self, cookie: u64) -> bool {
        self.known.get(&cookie).is_some_and(|known| known.elsewhere)
    }

    /// All sockets.
    pub(super) fn all(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    /// The sockets that a flow's packets were of, its opener's first.
    pub(super) fn of_flow(&self, flow: &FlowKey) -> Vec<&Known> {
        let FlowKey { local, remote, .. } = *flow;
        let turned = FlowKey { local: remote, remote: local, ..*flow };
        // On the loopback nobody knew which end had opened it.
        let keys = [Some(flow), (flow.scope == ObservationPoint::Loopback).then_some(&turned)];
        let cookies = keys.into_iter().flatten().filter_map(|key| self.of_flows.get(key)).flatten();
        let mut distinct: Vec<u64> = Vec::new();
        cookies.for_each(|cookie| {
            if !distinct.contains(cookie) {
                distinct.push(*cookie);
            }
        });
        distinct.iter().filter_map(|cookie| self.known.get(cookie)).collect()
    }

    /// The sockets that were bound to the port of one end of a flow while it was there; of protocols without ports, those of the protocol.
    pub(super) fn bound_to(&self, protocol: u8, end: End, span: Span) -> Vec<&Known> {
        let cookies = self.bound.get(&(protocol, end.port)).into_iter().flatten();
        cookies.filter_map(|cookie| self.known.get(cookie)).filter(|known| known.is_of(span)).collect()
    }

    /// Whether the flow of such an end may be that of a socket which is not kept any more.
    pub(super) fn may_be_forgotten(&self, protocol: u8, end: End) -> bool {
        self.forgotten.contains(&(protocol, end.port))
    }

    /// The closed sockets that had these ends while the flow was there.
    pub(super) fn closed_between(&self, protocol: u8, local: End, remote: End, span: Span) -> Vec<&Known> {
        let cookies = self.closed.get(&(protocol, local, remote)).into_iter().flatten();
        let known = cookies.filter_map(|cookie| self.known.get(cookie));
        // A socket that is reported closed twice may have had other ends the first time.
        let has_ends = |known: &&Known| known.closed.is_some_and(|closed| closed.ends == Some((local, remote)));
        known.filter(|known| has_ends(known) && known.is_of(span)).collect()
    }

    /// Whether there is little room left. Counts the looks: of a socket that was closed before the last one, all packets were heard of.
    pub(super) fn is_nearly_full(&mut self) -> bool {
        self.tidied += 1;
        self.rooms[0].is_due(self.known.len()) || self.rooms[1].is_due(self.of_flows.len())
    }

    /// Forgets flows that are not reported, and closed sockets that are of none that is. Of those, connections that came to nothing.
    pub(super) fn tidy(&mut self, reported: &dyn ReportedFlows) -> Vec<(Tried, Option<i32>)> {
        if reported.is_complete() {
            self.of_flows.retain(|flow, _| reported.contains(flow));
        }
        self.of_flows.retain(|_, cookies| {
            join_alike(cookies, &self.known);
            !cookies.is_empty()
        });
        let needed: HashSet<u64> = self.of_flows.values().flatten().copied().collect();
        let (tidied, of_flows) = (self.tidied, &self.of_flows);
        // By its ends a socket is looked for only where no packet said whose it was.
        let is_wanted = |flow: &FlowKey| reported.contains(flow) && !of_flows.contains_key(flow);
        let is_over = |cookie: &u64, known: &Known| {
            let closed = known.closed.filter(|closed| closed.tidied + 1 < tidied);
            closed
                .is_some_and(|closed| !needed.contains(cookie) && !has_ends_of(known.protocol, closed.ends, is_wanted))
        };
        let over = self.known.extract_if(|cookie, known| is_over(cookie, known));
        let in_vain = over.filter_map(|(_, known)| known.came_to_nothing()).collect();
        let (known, forgotten) = (&self.known, &mut self.forgotten);
        self.bound.retain(|port, cookies| {
            let before = cookies.len();
            cookies.retain(|cookie| known.contains_key(cookie));
            if cookies.len() < before {
                forgotten.insert(*port);
            }
            !cookies.is_empty()
        });
        self.closed.retain(|_, cookies| {
            cookies.retain(|cookie| known.contains_key(cookie));
            !cookies.is_empty()
        });
        self.rooms[0].was_tidied(self.known.len());
        self.rooms[1].was_tidied(self.of_flows.len());
        in_vain
    }

    /// All processes that had to do with a socket.
    pub(super) fn processes(&self) -> impl Iterator<Item = ProcessNumber> {
        self.known.values().flat_map(Known::processes)
    }
}

/// Leaves out closed sockets of one flow that the same processes used as another one of it, and sockets of which nothing is known: connection
/// after connection from the same port says nothing new.
fn join_alike(cookies: &mut Vec<u64>, known: &HashMap<u64, Known>) {
    let mut kept: Vec<&Known> = Vec::new();
    cookies.retain(|cookie| {
        let Some(socket) = known.get(cookie) else { return false };
        let is_alike = |other: &&Known| (other.maker, &other.users) == (socket.maker, &socket.users);
        let says_nothing_new = socket.closed.is_some() && kept.iter().any(is_alike);
        kept.push(socket);
        !says_nothing_new
    });
}

/// A flow between these ends, whichever way it goes, is one of those.
fn has_ends_of(protocol: Option<Protocol>, ends: Option<(End, End)>, contains: impl Fn(&FlowKey) -> bool) -> bool {
    let Some((protocol, (local, remote))) = protocol.zip(ends) else { return false };
    let flow = |scope| FlowKey { scope, protocol: protocol.0, fragment: false, local, remote };
    contains(&flow(ObservationPoint::Link)) || contains(&flow(ObservationPoint::Loopback))
}
