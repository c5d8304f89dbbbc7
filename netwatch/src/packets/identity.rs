//! Which process and which name belong to the packets of a flow. Both are requested from the
//! session once per flow, and again when they may have changed.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use indexmap::IndexMap;

use super::flow_cache::{FlowCache, HeaderKey};
use super::{FlowQuery, Identify};
use crate::capture::comment::{CommentedProcess, remote_comment};
use crate::capture::write::{INBOUND, OUTBOUND, WritablePacket};
use crate::flow::{Direction, FlowKey};
use crate::meter::{PacketFlow, PacketFlows, PacketOrigin, RingPacket};
use crate::process::Process;
use crate::session::FlowIdentity;

/// Maximum time that packets wait for an answer. They are then written without one.
const TIMEOUT: Duration = Duration::from_millis(50);
/// Maximum number of flows that are remembered. All are forgotten when there are more.
const MAX_FLOWS: usize = 65_536;
/// Maximum number of addresses of which a name is remembered.
const MAX_NAMES: usize = 65_536;
/// Packets of a batch of small ones.
const USUAL_BATCH: usize = 1024;
/// How often an unknown process is requested again.
const MAX_REQUESTS: u32 = 20;
/// As [`MAX_REQUESTS`], for a flow of which only the name is unknown. Many flows have none.
const MAX_NAME_REQUESTS: u32 = 5;
/// Maximum number of answers that are late. Until one arrives, nothing more is requested.
const MAX_LATE: usize = 64;
/// Time between two requests for a flow of which something is unknown.
const RETRY_NS: u64 = 20_000_000;

/// Process and name of a flow.
#[derive(Debug, Clone, Default)]
pub struct PacketIdentity {
    pub(super) pid: Option<u32>,
    /// The name of the process.
    pub(super) comm: Option<Arc<str>>,
    /// The name of the remote.
    pub(super) name: Option<Arc<str>>,
    /// The comment about the process.
    pub(super) comment: Option<Arc<str>>,
    /// The comment about the remote.
    pub(super) remote: Option<Arc<str>>,
}

impl PacketIdentity {
    pub(super) fn set_process(&mut self, process: &CommentedProcess) {
        self.pid = Some(process.pid);
        self.comm = Some(process.comm.as_str().into());
        self.comment = Some(process.to_comment().into());
    }

    /// Whether process and name are known.
    fn is_complete(&self) -> bool {
        self.pid.is_some() && self.name.is_some()
    }
}

impl From<FlowIdentity> for PacketIdentity {
    fn from(identity: FlowIdentity) -> Self {
        let mut own = Self::default();
        own.update(identity);
        own
    }
}

impl PacketIdentity {
    /// Adds what is known now.
    fn update(&mut self, FlowIdentity { process, name }: FlowIdentity) {
        if let Some(name) = name {
            self.name = Some(name.as_str().into());
            self.remote = Some(remote_comment(name.as_str()).into());
        }
        if let Some(Process { pid, uid, comm, exe, .. }) = process {
            // A relative path is that of a program that ended before its directory was known.
            let exe = exe.filter(|exe| exe.starts_with('/'));
            self.set_process(&CommentedProcess { pid, uid, comm, exe });
        }
    }
}

/// The encoded options of packets that a flow sends and of those that it receives.
type FlowOptions = [Vec<u8>; 2];

/// A remembered flow.
#[derive(Debug, Default)]
struct KnownFlow {
    /// Distinguishes connections with the same ends. An answer about an earlier one may be late.
    generation: u64,
    identity: PacketIdentity,
    /// The socket that sent its packets.
    socket: Option<u64>,
    requests: u32,
    requested_ns: u64,
    /// The options of its packets, from the first answer on.
    options: Option<Arc<FlowOptions>>,
}

impl KnownFlow {
    /// A flow of which nothing is known. `generations` is their number so far.
    fn next(generations: &mut u64) -> Self {
        *generations += 1;
        Self { generation: *generations, ..Self::default() }
    }

    /// The options of its packets.
    fn encoded(&self, states_names: bool) -> FlowOptions {
        let PacketIdentity { pid, comment, remote, .. } = &self.identity;
        let comments = [comment.as_deref(), remote.as_deref().filter(|_| states_names)];
        let options = |flags| {
            let (parts, flags, pid) = ([&[][..]; 2], Some(flags), *pid);
            let (time_ns, interface, orig_len, lost_before, encoded) = (0, 0, 0, 0, None);
            let comments = &comments;
            WritablePacket { time_ns, interface, flags, orig_len, parts, comments, pid, lost_before, encoded }.options()
        };
        [OUTBOUND, INBOUND].map(options)
    }
}

/// What is known about the flow of a packet.
#[derive(Clone, Copy)]
pub(super) struct IdentifiedFlow<'a> {
    /// `None` for a packet of no flow.
    pub key: Option<&'a FlowKey>,
    pub identity: &'a PacketIdentity,
    /// The options of packets of both directions, without comments of single packets.
    options: Option<&'a FlowOptions>,
}

impl<'a> IdentifiedFlow<'a> {
    /// The encoded options of packets of a direction, if an answer arrived.
    pub(super) fn options(self, direction: Direction) -> Option<&'a [u8]> {
        let [egress, ingress] = self.options?;
        Some(if direction == Direction::Egress { egress } else { ingress })
    }
}

/// The flow of a packet, and what leads to its process.
type FlowOrigin = (FlowKey, PacketOrigin);

/// A requested flow by its place, and its generation.
type WantedFlow = (usize, u64);

/// The flows of a request with their generations, and its answer when it arrives.
type LateAnswer = (Vec<(FlowOrigin, u64)>, Receiver<Vec<FlowIdentity>>);

/// Remembers the identities of flows.
pub(super) struct FlowIdentities {
    identify: Identify,
    /// Whether packets have a comment with the name of the remote.
    pub(super) states_names: bool,
    reader: PacketFlows,
    flows: IndexMap<FlowOrigin, KnownFlow, foldhash::fast::RandomState>,
    generations: u64,
    /// The places of flows by the headers of their packets.
    cache: FlowCache,
    /// Flows of one process to one name share their options.
    options: HashSet<Arc<FlowOptions>>,
    /// Answers that packets no longer wait for.
    late: Vec<LateAnswer>,
    names: HashMap<IpAddr, String>,
}

impl FlowIdentities {
    /// With `states_names`, packets have a comment with the name of the remote.
    pub(super) fn new(identify: Identify, states_names: bool) -> Self {
        let (reader, flows, cache) = (PacketFlows::default(), IndexMap::default(), FlowCache::default());
        let (generations, options, late, names) = (0, HashSet::new(), Vec::new(), HashMap::new());
        Self { identify, states_names, reader, flows, generations, cache, options, late, names }
    }

    /// Requests what is not known about the flows of these packets, and waits for the answer for at
    /// most [`TIMEOUT`]. Returns the place of the flow of each packet, valid until the next call.
    pub(super) fn prepare<'a>(&mut self, packets: impl Iterator<Item = RingPacket<'a>>) -> Vec<Option<usize>> {
        if self.flows.len() > MAX_FLOWS {
            self.flows.clear();
            self.cache.clear();
            self.options.clear();
        }
        self.take_late_answers();
        let (mut queries, mut wanted): (Vec<FlowQuery>, Vec<WantedFlow>) = Default::default();
        let mut places = Vec::with_capacity(USUAL_BATCH);
        places.extend(packets.map(|packet| {
            let header = HeaderKey::of_packet(&packet);
            if let Some(place) = header.and_then(|header| self.cache.get(&header)) {
                if self.is_wanted(place, &packet, false) {
                    let (key, _) = self.flows.get_index(place)?;
                    queries.push((key.0, packet.direction, packet.time_ns, self.flows[place].socket));
                    wanted.push((place, self.flows[place].generation));
                }
                return Some(place);
            }
            let flow = self.reader.read(packet.bytes, packet.orig_len, packet.direction, packet.time_ns)?;
            let place = self.place((flow.key, flow.origin));
            if let Some(header) = header {
                self.cache.insert(header, place);
            }
            if self.is_wanted(place, &packet, flow.opens) {
                queries.push(self.query(place, &flow, &packet));
                wanted.push((place, self.flows[place].generation));
            }
            Some(place)
        }));
        if !queries.is_empty() {
            self.request(queries, &wanted);
        }
        places
    }

    /// Requests, and waits for the answer. If an earlier one is late, the packets do not wait: the
    /// ring would fill while each batch waits again.
    fn request(&mut self, queries: Vec<FlowQuery>, wanted: &[WantedFlow]) {
        let answers = (self.identify)(queries);
        let timeout = if self.late.is_empty() { TIMEOUT } else { Duration::ZERO };
        match answers.recv_timeout(timeout) {
            Ok(answers) => wanted.iter().zip(answers).for_each(|(place, answer)| self.remember(*place, answer)),
            Err(_) => {
                let flow = |(place, generation): &WantedFlow| Some((*self.flows.get_index(*place)?.0, *generation));
                self.late.push((wanted.iter().filter_map(flow).collect(), answers));
            }
        }
    }

    /// Takes the answers that arrived after their packets were written.
    fn take_late_answers(&mut self) {
        for (flows, receiver) in std::mem::take(&mut self.late) {
            match receiver.try_recv() {
                Ok(answers) => {
                    for ((flow, generation), answer) in flows.iter().zip(answers) {
                        if let Some(place) = self.flows.get_index_of(flow) {
                            self.remember((place, *generation), answer);
                        }
                    }
                }
                Err(TryRecvError::Empty) => self.late.push((flows, receiver)),
                // The session has ended.
                Err(TryRecvError::Disconnected) => {}
            }
        }
    }

    /// What is asked about a packet. An error of ICMP concerns the process of the packet that it
    /// quotes, which went in the other direction.
    fn query(&self, place: usize, flow: &PacketFlow, packet: &RingPacket<'_>) -> FlowQuery {
        match (flow.origin, packet.direction) {
            (PacketOrigin::Quoted(quoted), Direction::Ingress) => (quoted, Direction::Egress, packet.time_ns, None),
            (PacketOrigin::Quoted(quoted), Direction::Egress) => (quoted, Direction::Ingress, packet.time_ns, None),
            (_, direction) => (flow.key, direction, packet.time_ns, self.flows[place].socket),
        }
    }

    /// The place of a flow, which is added if it is not known.
    fn place(&mut self, flow: FlowOrigin) -> usize {
        let entry = self.flows.entry(flow);
        let place = entry.index();
        entry.or_insert_with(|| KnownFlow::next(&mut self.generations));
        place
    }

    /// Whether the flow of this packet has to be requested. A packet that opens a connection, or
    /// that another socket sent, may belong to another process than the earlier ones.
    fn is_wanted(&mut self, place: usize, packet: &RingPacket<'_>, opens: bool) -> bool {
        let known = &mut self.flows[place];
        let is_new_socket = packet.socket.is_some() && known.socket.is_some() && packet.socket != known.socket;
        if is_new_socket || (opens && packet.direction == Direction::Egress) {
            *known = KnownFlow::next(&mut self.generations);
        }
        known.socket = packet.socket.or(known.socket);
        let is_due = known.requests == 0 || packet.time_ns.saturating_sub(known.requested_ns) >= RETRY_NS;
        let max_requests = if known.identity.pid.is_some() { MAX_NAME_REQUESTS } else { MAX_REQUESTS };
        let is_possible = known.requests < max_requests && self.late.len() < MAX_LATE;
        if known.identity.is_complete() || !is_possible || !is_due {
            return false;
        }
        known.requests += 1;
        known.requested_ns = packet.time_ns;
        true
    }

    /// Stores an answer, unless the flow is that of another connection by now.
    fn remember(&mut self, (place, generation): WantedFlow, answer: FlowIdentity) {
        let Some(((key, origin), known)) = self.flows.get_index_mut(place) else { return };
        let named = if let PacketOrigin::Quoted(quoted) = origin { quoted } else { key };
        if let Some(name) = &answer.name
            && self.names.len() < MAX_NAMES
        {
            self.names.insert(named.remote.addr, name.as_str().to_owned());
        }
        if known.generation == generation {
            known.identity.update(answer);
            let options = known.encoded(self.states_names);
            if self.options.len() >= MAX_FLOWS {
                self.options.clear();
            }
            let shared = self.options.get(&options).cloned().unwrap_or_else(|| Arc::new(options));
            self.options.insert(shared.clone());
            known.options = Some(shared);
        }
    }

    /// What is known about the flow at a place.
    pub(super) fn of(&self, place: Option<usize>) -> IdentifiedFlow<'_> {
        static UNKNOWN: PacketIdentity =
            PacketIdentity { pid: None, comm: None, name: None, comment: None, remote: None };
        match place.and_then(|place| self.flows.get_index(place)) {
            None => IdentifiedFlow { key: None, identity: &UNKNOWN, options: None },
            Some(((key, _), known)) => {
                IdentifiedFlow { key: Some(key), identity: &known.identity, options: known.options.as_deref() }
            }
        }
    }

    /// Remembers names from a report.
    pub(super) fn learn(&mut self, names: impl Iterator<Item = (IpAddr, String)>) {
        names.for_each(|(address, name)| drop(self.names.insert(address, name)));
    }

    /// The names of addresses that are known so far.
    pub(super) fn names(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.names.iter().map(|(address, name)| (*address, name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Mutex;
    use std::sync::mpsc::{self, Sender};

    use super::*;
    use crate::wire::Name;

    const MILLISECOND_NS: u64 = 1_000_000;

    /// A TCP segment without flags that the target sent at this time.
    fn packet(bytes: &[u8], time_ns: u64) -> RingPacket<'_> {
        let (direction, orig_len) = (Direction::Egress, bytes.len() as u32);
        RingPacket {
            time_ns,
            socket: Some(1),
            lost: 0,
            direction,
            interface: 0,
            orig_len,
            gso_size: 0,
            gso_segs: 0,
            vlan: None,
            bytes,
        }
    }

    fn segment() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0];
        frame.extend_from_slice(&[198, 51, 100, 2, 198, 51, 100, 1, 0x13, 0x88, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1]);
        frame.extend_from_slice(&[0x50, 0x10, 1, 0, 0, 0, 0, 0]);
        frame
    }

    #[test]
    fn a_relative_path_is_left_out() {
        let comment = |exe: &str| {
            let process = Process { pid: 7, comm: "curl".into(), exe: Some(exe.into()), ..Process::default() };
            PacketIdentity::from(FlowIdentity { process: Some(process), name: None }).comment.expect("a comment")
        };
        assert!(!comment("./curl").contains("exe="));
        assert!(comment("/bin/curl").ends_with("exe=\"/bin/curl\""));
    }

    /// The name is in a later packet than the process.
    #[test]
    fn a_name_is_requested_again_after_the_process_is_known() {
        let requests = Cell::new(0);
        let identify: Identify = Box::new(move |flows| {
            requests.set(requests.get() + 1);
            let process = Some(Process { pid: 7, comm: "curl".into(), ..Process::default() });
            let name = (requests.get() == 2).then(|| Name::new(b"app.example").expect("a name"));
            let (reply, answers) = mpsc::channel();
            reply
                .send(flows.iter().map(|_| FlowIdentity { process: process.clone(), name: name.clone() }).collect())
                .ok();
            answers
        });
        let mut identities = FlowIdentities::new(identify, true);
        let frame = segment();
        let mut at = |milliseconds: u64| {
            let flows = identities.prepare([packet(&frame, milliseconds * MILLISECOND_NS)].into_iter());
            let identity = identities.of(flows[0]).identity;
            (identity.pid, identity.name.as_deref().map(str::to_owned))
        };
        assert_eq!(at(1000), (Some(7), None));
        assert_eq!(at(1005), (Some(7), None), "not requested again at once");
        assert_eq!(at(1030), (Some(7), Some("app.example".to_owned())));
    }
    /// Requests that wait for an answer, which is process 7 for each flow.
    type Waiting = Arc<Mutex<Vec<(usize, Sender<Vec<FlowIdentity>>)>>>;

    /// Answers when [`answer`] is called.
    fn slow() -> (FlowIdentities, Waiting) {
        let waiting = Waiting::default();
        let of_session = waiting.clone();
        let identify: Identify = Box::new(move |flows| {
            let (reply, answers) = mpsc::channel();
            of_session.lock().expect("not poisoned").push((flows.len(), reply));
            answers
        });
        (FlowIdentities::new(identify, true), waiting)
    }

    fn answer(waiting: &Waiting) {
        for (flows, reply) in waiting.lock().expect("not poisoned").drain(..) {
            let process = Some(Process { pid: 7, comm: "curl".into(), ..Process::default() });
            reply.send(vec![FlowIdentity { process, name: None }; flows]).expect("they wait");
        }
    }

    #[test]
    fn requests_that_are_not_sent_do_not_count() {
        let (mut identities, waiting) = slow();
        let mut pid = |port: u8, milliseconds: u64| {
            let mut frame = segment();
            frame[35] = port;
            let flows = identities.prepare([packet(&frame, milliseconds * MILLISECOND_NS)].into_iter());
            identities.of(flows[0]).identity.pid
        };
        for port in 0..MAX_LATE as u8 {
            assert_eq!(pid(port, 1000), None);
        }
        for retry in 0..2 * u64::from(MAX_REQUESTS) {
            assert_eq!(pid(255, 1100 + 30 * retry), None);
        }
        assert_eq!(waiting.lock().expect("not poisoned").len(), MAX_LATE);
        answer(&waiting);
        assert_eq!(pid(255, 9000), None, "requested");
        answer(&waiting);
        assert_eq!(pid(255, 9001), Some(7));
    }

    #[test]
    fn a_late_answer_is_not_that_of_the_next_connection() {
        let (mut identities, waiting) = slow();
        let frame = segment();
        let mut pid = |socket: u64, milliseconds: u64| {
            let packet = RingPacket { socket: Some(socket), ..packet(&frame, milliseconds * MILLISECOND_NS) };
            let flows = identities.prepare([packet].into_iter());
            identities.of(flows[0]).identity.pid
        };
        assert_eq!(pid(1, 1000), None);
        assert_eq!(pid(2, 1001), None);
        let (_, about_second) = waiting.lock().expect("not poisoned").pop().expect("requested");
        answer(&waiting);
        assert_eq!(pid(2, 1002), None, "the answer was about the first socket");
        about_second.send(vec![FlowIdentity::default()]).expect("it waits");
        assert_eq!(pid(2, 1003), None);
    }
}
