//! Short HTTP connections as the kernel reports them, for the benches of sessions.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use netwatch::flow::{
    Counters, Direction, EndReason, FlowKey, Increment, ObservationPoint, PayloadGrowth, PerDirection, Protocol,
    TcpFacts, Traffic, TransportAddress,
};
use netwatch::name::{NameSample, Segment};
use netwatch::process::{
    Attribution, ClosedSocket, Image, LiveProcess, Origin, ProcessAction, ProcessEvent, SocketOperation, SocketUse,
    SystemView, ThreadName,
};
use netwatch::report::{Interface, Run};
use netwatch::session::{IsolatedScope, Observed, Session, SessionConfig};
use netwatch_common::tcp::{ACK, FIN, PSH, SYN};

pub const STARTED_NS: u64 = 1_700_000_000_000_000_000;
pub const SECOND_NS: u64 = 1_000_000_000;
/// Connections between two drains: those of a second.
pub const PER_DRAIN: u64 = 20_000;
pub const MAX_BATCH_EVENTS: usize = 32_768;
const CLIENT: u32 = 4000;
const SERVER: u32 = 4001;

/// A session of a client and a server.
pub struct ConnectionScene {
    pub session: Session<IsolatedScope>,
    point: ObservationPoint,
}

impl ConnectionScene {
    /// A session that has not started, so that a consumer can be attached.
    pub fn new(point: ObservationPoint) -> Self {
        let run = Run { command: vec!["bench".into()], pid: Some(CLIENT), ..Run::default() };
        let scope = IsolatedScope { run, interface: Interface::default(), dns: Default::default() };
        let config = SessionConfig { attribution: Attribution::On, ..SessionConfig::default() };
        Self { session: Session::new(scope, config), point }
    }

    /// Starts the session and its two processes.
    pub fn start(&mut self) {
        let (session, point) = (&mut self.session, self.point);
        session.start(STARTED_NS);
        for (pid, name) in [(CLIENT, "client"), (SERVER, "server")] {
            let origin = Origin { start_ns: STARTED_NS, ppid: 1, maker: 1 };
            let image = Image { comm: name.into(), exe: Some(format!("/usr/bin/{name}")), ..Image::default() };
            let exec = ProcessAction::Exec(origin, image);
            session.observe(Observed::Process(event(pid, STARTED_NS, exec), &mut NoSystem));
        }
        let address = Some(SocketAddr::new(server(0, point).addr, 80));
        let listens = SocketUse { cookie: 1, netns: 0, protocol: Some(Protocol::TCP), address };
        let bound = ProcessAction::SocketUse(SocketOperation::Bound, listens);
        session.observe(Observed::Process(event(SERVER, STARTED_NS, bound), &mut NoSystem));
    }

    /// Connections with these numbers, which have ended when their second has.
    pub fn second(&mut self, numbers: std::ops::Range<u64>) {
        numbers.clone().for_each(|number| self.observe(number));
        numbers.clone().for_each(|number| self.session.apply(increment(number, self.point)));
        self.session.end_interval(numbers.end / PER_DRAIN * SECOND_NS);
    }

    /// What the kernel reports about a connection before its counters are drained.
    fn observe(&mut self, number: u64) {
        let (flow, time_ns) = (key(number, self.point), STARTED_NS + number * 50_000);
        let cookies = [10 + 2 * number, 11 + 2 * number];
        let address = Some(SocketAddr::new(flow.remote.addr, flow.remote.port));
        let of_client = SocketUse { cookie: cookies[0], netns: 0, protocol: Some(Protocol::TCP), address };
        let session = &mut self.session;
        for operation in [SocketOperation::Created, SocketOperation::Connect] {
            let action = ProcessAction::SocketUse(operation, of_client);
            session.observe(Observed::Process(event(CLIENT, time_ns, action), &mut NoSystem));
        }
        session.observe(Observed::Socket { flow, cookie: cookies[0] });
        session.observe(Observed::Begun { flow, time_ns });
        let is_loopback = self.point == ObservationPoint::Loopback;
        if is_loopback {
            let used = SocketUse { cookie: cookies[1], address: None, ..of_client };
            let action = ProcessAction::SocketUse(SocketOperation::Used, used);
            session.observe(Observed::Process(event(SERVER, time_ns, action), &mut NoSystem));
            session.observe(Observed::Socket { flow, cookie: cookies[1] });
        }
        for (direction, payload) in [(Direction::Egress, REQUEST), (Direction::Ingress, RESPONSE)] {
            session.observe(Observed::Name(NameSample {
                time_ns: time_ns + 20_000,
                flow,
                direction,
                opened_by: Direction::Egress,
                payload,
                payload_len: payload.len() as u32,
                tcp: Some(Segment { sequence: 1, flags: ACK | PSH, acknowledgment: None }),
            }));
        }
        let ends = [(CLIENT, cookies[0], flow.local, flow.remote), (SERVER, cookies[1], flow.remote, flow.local)];
        for (pid, cookie, local, remote) in ends.into_iter().take(1 + usize::from(is_loopback)) {
            let (local, remote) = (Some(local), Some(remote));
            let closed = ClosedSocket { cookie, netns: 0, protocol: Some(Protocol::TCP), local, remote };
            let action = ProcessAction::ClosedSocket(closed);
            session.observe(Observed::Process(event(pid, time_ns + 40_000, action), &mut NoSystem));
        }
    }
}

const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: app.example\r\nUser-Agent: bench\r\nConnection: close\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\n\
    ....................................................................................................";

/// Every process is known from its events.
struct NoSystem;

impl SystemView for NoSystem {
    fn process(&mut self, _: u32) -> Option<LiveProcess> {
        None
    }
    fn is_bound(&mut self, _: &str) -> Option<bool> {
        None
    }
}

fn event(pid: u32, time_ns: u64, action: ProcessAction) -> ProcessEvent {
    ProcessEvent {
        time_ns,
        start_ns: STARTED_NS,
        pid,
        tid: pid,
        program: 1,
        uid: 0,
        comm: ThreadName::from("bench"),
        action,
    }
}

/// One of sixteen servers.
fn server(number: u64, point: ObservationPoint) -> TransportAddress {
    let addr = match point {
        ObservationPoint::Link => Ipv4Addr::new(203, 0, 113, 1 + (number % 16) as u8),
        ObservationPoint::Loopback => Ipv4Addr::LOCALHOST,
    };
    TransportAddress { addr: IpAddr::V4(addr), port: 80 }
}

/// Sixteen connections from each port; on the loopback, the ports are used again.
fn key(number: u64, point: ObservationPoint) -> FlowKey {
    const PORTS: u64 = 28_000;
    let (addr, port) = match point {
        ObservationPoint::Link => (Ipv4Addr::new(198, 51, 100, 2), number / 16 % PORTS),
        ObservationPoint::Loopback => (Ipv4Addr::LOCALHOST, number % PORTS),
    };
    let local = TransportAddress { addr: IpAddr::V4(addr), port: 32_768 + port as u16 };
    FlowKey { point, protocol: Protocol::TCP.0, fragment: false, local, remote: server(number, point) }
}

fn increment(number: u64, point: ObservationPoint) -> Increment {
    let first_seen_ns = STARTED_NS + number * 50_000;
    let counters = |packets, bytes| Counters { skbs: packets, packets, bytes, wire_bytes: bytes };
    let flags = SYN | ACK | PSH | FIN;
    Increment {
        traffic: Traffic::Flow(key(number, point)),
        point,
        counters: PerDirection { egress: counters(6, 500), ingress: counters(4, 450) },
        payload: PayloadGrowth::default(),
        first_seen_ns,
        last_seen_ns: first_seen_ns + 45_000,
        opened_by: Direction::Egress,
        connections: 1,
        initial_sequence: Some(number as u32),
        epoch: 0,
        superseded: false,
        is_last: false,
        ended: Some(EndReason::EndOfFlow),
        tcp: Some(TcpFacts {
            flags: PerDirection { egress: flags, ingress: flags },
            handshake_rtt_ns: Some(20_000),
            syns: PerDirection { egress: 1, ingress: 0 },
            syn_acks: PerDirection { egress: 0, ingress: 1 },
            ..TcpFacts::default()
        }),
    }
}
