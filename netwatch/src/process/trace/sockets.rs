//! Sockets: who made them, who uses them, where they are bound, and of which flows they are.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use super::table::Number;
use crate::flow::{End, FlowKey, Protocol, Scope};
use crate::process::{Socket, Step};

/// Sockets that are kept; further ones are counted.
const MAX: usize = 1 << 18;
/// Processes that are kept of one socket.
const MAX_USERS: usize = 16;

/// What is known of a socket.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub maker: Option<Number>,
    /// In the order in which they were first seen.
    pub users: Vec<Number>,
    pub protocol: Option<Protocol>,
    /// Connections that were tried.
    pub tried: Option<Tried>,
    /// A packet of it was seen.
    has_packets: bool,
    /// It is of a namespace that the command made: none of its packets is seen here.
    pub elsewhere: bool,
    /// Why its last connection came to nothing.
    errno: Option<i32>,
}

/// Connections that a socket was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tried {
    pub first_ns: u64,
    pub last_ns: u64,
    pub count: u64,
    pub address: SocketAddr,
    pub process: Number,
}

impl Known {
    /// False if there are too many already.
    fn used_by(&mut self, process: Number) -> bool {
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

#[derive(Debug, Default)]
pub(super) struct Sockets {
    known: HashMap<u64, Known>,
    of_flows: HashMap<FlowKey, Vec<u64>>,
    bound: HashMap<(u8, u16), BTreeSet<u64>>,
    /// The cookie of the run's network namespace, where it is known.
    pub netns: Option<u64>,
    pub beyond: u64,
}

impl Sockets {
    pub(super) fn step(&mut self, process: Number, time_ns: u64, step: Step, socket: &Socket) {
        let elsewhere = socket.netns != 0 && self.netns.is_some_and(|netns| netns != socket.netns);
        let Some(known) = self.known_mut(socket.cookie) else { return };
        known.protocol = socket.protocol.or(known.protocol);
        known.elsewhere |= elsewhere;
        if known.elsewhere {
            return;
        }
        let is_one_too_many = step != Step::Made && !known.used_by(process);
        match step {
            Step::Made => {
                known.maker = Some(process);
                // Raw and ICMP sockets are bound to all that is of their protocol.
                if let Some(protocol) = known.protocol.filter(|protocol| !protocol.has_ports()) {
                    self.bound.entry((protocol.0, 0)).or_default().insert(socket.cookie);
                }
            }
            Step::Used | Step::NotSent(_) => {}
            Step::Bound => {
                if let (Some(protocol), Some(address)) = (known.protocol, socket.address) {
                    self.bound.entry((protocol.0, address.port())).or_default().insert(socket.cookie);
                }
            }
            Step::Connect => {
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
        if self.of_flows.len() < MAX || self.of_flows.contains_key(&flow) {
            let cookies = self.of_flows.entry(flow).or_default();
            if !cookies.contains(&cookie) && cookies.len() < MAX_USERS {
                cookies.push(cookie);
            } else if !cookies.contains(&cookie) {
                self.beyond += 1;
            }
        } else {
            self.beyond += 1;
        }
    }

    /// The socket's connection failed with an errno. True if that is noted: it is an attempt unless packets tell of it, and those may be
    /// heard of later than the call.
    pub(super) fn explain(&mut self, cookie: u64, errno: i32) -> bool {
        let known = self.known.get_mut(&cookie).filter(|known| known.protocol == Some(Protocol::TCP));
        known.map(|known| known.errno = Some(errno)).is_some()
    }

    fn known_mut(&mut self, cookie: u64) -> Option<&mut Known> {
        if self.known.len() >= MAX && !self.known.contains_key(&cookie) {
            self.beyond += 1;
            return None;
        }
        Some(self.known.entry(cookie).or_default())
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
        let keys = [Some(flow), (flow.scope == Scope::Loopback).then_some(&turned)];
        let cookies = keys.into_iter().flatten().filter_map(|key| self.of_flows.get(key)).flatten();
        let mut distinct: Vec<u64> = Vec::new();
        cookies.for_each(|cookie| {
            if !distinct.contains(cookie) {
                distinct.push(*cookie);
            }
        });
        distinct.iter().filter_map(|cookie| self.known.get(cookie)).collect()
    }

    /// The sockets that are bound to the port of one end of a flow; of protocols without ports, those of the protocol.
    pub(super) fn bound_to(&self, protocol: u8, end: End) -> Vec<&Known> {
        let cookies = self.bound.get(&(protocol, end.port)).into_iter().flatten();
        cookies.filter_map(|cookie| self.known.get(cookie)).collect()
    }
}
