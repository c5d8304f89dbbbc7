//! The cost of a new connection in user space: a session receives the observations and increments
//! of short HTTP connections, as the kernel reports them, and is recorded. Run with `cargo bench
//! --package netwatch --bench session -- [CONNECTIONS]`.
//!
//! Prints CPU time per connection, of this thread and of the recording, and the growth of the
//! private memory. The work is the same in each run, so that a profiler can be used.

use std::error::Error;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, channel};

use netwatch::consumer::{Feed, StreamEnd};
use netwatch::flow::{
    Counters, Direction, EndReason, FlowKey, Increment, ObservationPoint, PayloadGrowth, PerDirection, Protocol,
    TcpFacts, Traffic, TransportAddress,
};
use netwatch::name::{NameSample, Segment};
use netwatch::process::{
    Attribution, ClosedSocket, Image, LiveProcess, Origin, ProcessAction, ProcessEvent, SocketOperation, SocketUse,
    SystemView, ThreadName,
};
use netwatch::record::{Destination, RecordingPlace};
use netwatch::report::{Interface, Run};
use netwatch::session::{GrowthTiming, IsolatedScope, Observed, OutletId, Session, SessionConfig};
use netwatch::target::user::Identity;
use netwatch_common::tcp::{ACK, FIN, PSH, SYN};
use nix::time::{ClockId, clock_gettime};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const STARTED_NS: u64 = 1_700_000_000_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Connections between two drains: those of a second.
const PER_DRAIN: u64 = 20_000;
/// The first few use memory that grows once.
const WARM_UP: u64 = PER_DRAIN;
const DEFAULT_CONNECTIONS: u64 = 200_000;
const MAX_BATCH_EVENTS: usize = 32_768;
const CLIENT: u32 = 4000;
const SERVER: u32 = 4001;

fn main() -> Result {
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(DEFAULT_CONNECTIONS);
    for (what, point) in [("link", ObservationPoint::Link), ("loopback", ObservationPoint::Loopback)] {
        measure(what, point, count)?;
    }
    Ok(())
}

fn measure(what: &str, point: ObservationPoint, count: u64) -> Result {
    let folder = tempfile::tempdir()?;
    let mut bench = Bench::start(point, folder.path().join("bench.netwatch"))?;
    bench.run(0..WARM_UP)?;
    let before = Spent::now()?;
    bench.run(WARM_UP..WARM_UP + count)?;
    let spent = Spent::now()?.since(&before);
    let each = |ns: u64| ns as f64 / 1e3 / count as f64;
    let mut line = format!("{what}: {:.2} µs per connection", each(spent.process_ns));
    let recording = spent.process_ns.saturating_sub(spent.thread_ns);
    write!(line, ", {:.2} metering and {:.2} recording", each(spent.thread_ns), each(recording))?;
    write!(line, "; {} bytes per connection", spent.private_bytes / count as i64)?;
    println!("{line}; {:.1} MiB private in all", Spent::now()?.private_bytes as f64 / f64::from(1 << 20));
    bench.finish()
}

/// What the process has used so far.
struct Spent {
    thread_ns: u64,
    process_ns: u64,
    private_bytes: i64,
}

impl Spent {
    fn now() -> Result<Self> {
        let clock = |id| -> Result<u64> {
            let time = clock_gettime(id)?;
            Ok(time.tv_sec() as u64 * SECOND_NS + time.tv_nsec() as u64)
        };
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
        let private = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")?.split_whitespace().next());
        Ok(Self {
            thread_ns: clock(ClockId::CLOCK_THREAD_CPUTIME_ID)?,
            process_ns: clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)?,
            private_bytes: private.ok_or("no private memory")?.parse::<i64>()? << 10,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            thread_ns: self.thread_ns - before.thread_ns,
            process_ns: self.process_ns - before.process_ns,
            private_bytes: self.private_bytes - before.private_bytes,
        }
    }
}

/// A session with a recording.
struct Bench {
    session: Session<IsolatedScope>,
    point: ObservationPoint,
    outlet: OutletId,
    feed: Feed,
    has_room: Receiver<()>,
}

impl Bench {
    fn start(point: ObservationPoint, file: std::path::PathBuf) -> Result<Self> {
        let run = Run { command: vec!["bench".into()], pid: Some(CLIENT), ..Run::default() };
        let scope = IsolatedScope { run, interface: Interface::default(), dns: Default::default() };
        let config = SessionConfig { attribution: Attribution::On, ..SessionConfig::default() };
        let mut session = Session::new(scope, config);
        let place = RecordingPlace::File(file, None);
        let destination = Destination { place, user: Identity::own()?, limit_bytes: 1 << 30 }.check()?;
        let recording = netwatch::consumer::recording::Recording::new(destination, "3f2a91bc".into(), STARTED_NS);
        let (room, has_room) = channel();
        let feed = Feed::start(recording, move || _ = room.send(()))?;
        let outlet = session.attach(feed.wants());
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
        Ok(Self { session, point, outlet, feed, has_room })
    }

    /// Connections with these numbers.
    fn run(&mut self, numbers: std::ops::Range<u64>) -> Result {
        let mut first = numbers.start;
        while first < numbers.end {
            let end = numbers.end.min(first + PER_DRAIN);
            (first..end).for_each(|number| self.observe(number));
            (first..end).for_each(|number| self.session.apply(increment(number, self.point)));
            self.session.end_interval(end / PER_DRAIN * SECOND_NS);
            self.deliver(GrowthTiming::Now);
            first = end;
        }
        // So that the CPU time of the recording is complete.
        while !self.session.is_delivered(self.outlet) || self.has_room.recv_timeout(WAIT).is_ok() {
            self.deliver(GrowthTiming::Now);
        }
        Ok(())
    }

    fn deliver(&mut self, growth: GrowthTiming) {
        while self.feed.has_room() {
            let events = self.session.deliver(self.outlet, MAX_BATCH_EVENTS, growth);
            if events.is_empty() {
                return;
            }
            self.feed.send(events);
        }
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
                tcp: Some(Segment { sequence: 1, flags: ACK | PSH }),
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

    fn finish(self) -> Result {
        self.feed.close(StreamEnd::Abandoned).wait(std::time::Instant::now() + netwatch::consumer::FINISH_TIMEOUT)?;
        Ok(())
    }
}

/// After this time without a sign, the recording has written everything.
const WAIT: std::time::Duration = std::time::Duration::from_millis(500);

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
