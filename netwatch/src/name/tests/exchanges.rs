//! Exchanges of services: times from any segmentation, and what is not measured.

use proptest::prelude::*;

use super::*;

mod tls;

const PORT: u16 = 8080;
const MS: u64 = 1_000_000;

/// Both ends of a connection to a service.
struct Service {
    names: Names,
    flow: FlowKey,
    /// The next sequence number of the client and of the service.
    next: [u32; 2],
}

impl Service {
    fn new() -> Self {
        Self { names: names(), flow: flow(TCP, PORT, 9, 50_000), next: [u32::MAX - 100, 7_000] }
    }

    fn observe(&mut self, time_ns: u64, is_client: bool, sequence: u32, acknowledgment: u32, payload: &[u8]) {
        let direction = if is_client { Direction::Ingress } else { Direction::Egress };
        let tcp = Segment { sequence, flags: netwatch_common::tcp::ACK, acknowledgment: Some(acknowledgment) };
        let sample = sample(self.flow, direction, payload);
        self.names.observe(&NameSample { time_ns, opened_by: Direction::Ingress, tcp: Some(tcp), ..sample });
    }

    /// A segment of the client of which only the first bytes were sampled.
    fn observe_cut(&mut self, time_ns: u64, sequence: u32, acknowledgment: u32, payload: &[u8], payload_len: u32) {
        let tcp = Segment { sequence, flags: netwatch_common::tcp::ACK, acknowledgment: Some(acknowledgment) };
        let sample = sample(self.flow, Direction::Ingress, payload);
        let opened_by = Direction::Ingress;
        self.names.observe(&NameSample { time_ns, opened_by, tcp: Some(tcp), payload_len, ..sample });
    }

    /// Bytes that are sent, and sampled unless `is_lost`.
    fn send(&mut self, at_ms: u64, is_client: bool, payload: &[u8], is_lost: bool) -> &mut Self {
        let [client, service] = self.next;
        let (sequence, acknowledgment) = if is_client { (client, service) } else { (service, client) };
        if !is_lost {
            self.observe(at_ms * MS, is_client, sequence, acknowledgment, payload);
        }
        let next = &mut self.next[usize::from(!is_client)];
        *next = next.wrapping_add(payload.len() as u32);
        self
    }

    fn ask(&mut self, at_ms: u64, payload: &[u8]) -> &mut Self {
        self.send(at_ms, true, payload, false)
    }

    fn answer(&mut self, at_ms: u64, payload: &[u8]) -> &mut Self {
        self.send(at_ms, false, payload, false)
    }

    /// Number of times and the largest in milliseconds, number of exchanges without a time, and
    /// statuses.
    fn ended(&mut self) -> (u64, u64, u64, [u64; 5]) {
        self.names.finish();
        let found = self.names.exchanges().get(&PORT).cloned().unwrap_or_default();
        (found.times.count(), found.times.max() / MS, found.unmeasured, found.statuses)
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n";

fn status(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\nok").into_bytes()
}

#[test]
fn the_exchanges_of_a_connection_are_measured_with_their_status() {
    let mut service = Service::new();
    service.ask(0, GET).answer(50, &status(200)).answer(60, &[b'x'; 100]);
    service.ask(100, GET).answer(107, &status(503)).ask(200, GET).answer(201, &status(404));
    assert_eq!(service.ended(), (3, 50, 0, [0, 1, 0, 1, 1]));
    let sampled = service.names.exchanges()[&PORT].request_bytes;
    assert_eq!(sampled, 3 * GET.len() as u64);
}

#[test]
fn protocols_without_status_are_measured_too() {
    let mut service = Service::new();
    service.answer(0, b"+OK ready\r\n").ask(1, b"USER x\r\n").answer(9, b"+OK\r\n").ask(20, b"QUIT\r\n");
    assert_eq!(service.ended(), (1, 8, 1, [0; 5]), "the greeting answers nothing, and QUIT was not answered");
}

#[test]
fn a_retransmission_changes_nothing() {
    let mut service = Service::new();
    let [client, server] = service.next;
    let answer = status(200);
    let [asked, answered] = [client.wrapping_add(GET.len() as u32), server + answer.len() as u32];
    service.ask(0, GET);
    service.observe(30 * MS, true, client, server, GET);
    service.answer(50, &answer);
    service.observe(60 * MS, true, client, server, GET);
    service.observe(70 * MS, false, server, asked, &answer);
    service.observe(80 * MS, true, client, answered, GET);
    assert_eq!(service.ended(), (1, 50, 0, [0, 1, 0, 0, 0]));
}

#[test]
fn what_was_not_sampled_is_not_measured_but_counted() {
    // The number of the segment that is lost, and the exchanges with and without a time.
    for (lost, expected) in [(1, (1, 0)), (2, (0, 1)), (3, (0, 1)), (4, (1, 0))] {
        let mut service = Service::new();
        service.send(0, true, b"first ", lost == 1).send(1, true, b"last", lost == 2);
        service.send(5, false, b"answer ", lost == 3).send(6, false, b"rest", lost == 4);
        let (count, _, unmeasured, _) = service.ended();
        assert_eq!((count, unmeasured), expected, "lost {lost}");
    }
    // The next request shows that there was a response.
    let mut service = Service::new();
    service.ask(0, b"one").send(3, false, b"two", true).ask(5, b"three").answer(9, b"four");
    assert_eq!(service.ended(), (1, 4, 1, [0; 5]));
}

#[test]
fn a_response_before_the_end_of_the_request_has_a_status_only() {
    let mut service = Service::new();
    let [client, server] = service.next;
    service.observe(0, true, client, server, GET);
    service.observe(MS, true, client.wrapping_add(GET.len() as u32), server, b"the body");
    let early = client.wrapping_add(GET.len() as u32);
    service.observe(2 * MS, false, server, early, &status(413));
    assert_eq!(service.ended(), (0, 0, 1, [0, 0, 0, 1, 0]));
}

#[test]
fn an_interim_response_is_none_and_an_upgrade_ends_the_exchanges() {
    let mut service = Service::new();
    service.ask(0, GET).answer(1, b"HTTP/1.1 100 Continue\r\n\r\n").ask(2, b"body").answer(12, &status(201));
    assert_eq!(service.ended(), (1, 10, 0, [0, 1, 0, 0, 0]));
    let mut service = Service::new();
    service.ask(0, GET).answer(1, b"HTTP/1.1 101 Switching Protocols\r\n\r\n").ask(2, b"\x81\0").answer(9, b"\x81\0");
    assert_eq!(service.ended(), (1, 1, 0, [1, 0, 0, 0, 0]));
    let mut service = Service::new();
    service.ask(0, b"CONNECT a:1 HTTP/1.1\r\n\r\n").answer(1, &status(200)).ask(2, b"ping").answer(9, b"pong");
    assert_eq!(service.ended(), (1, 1, 0, [0, 1, 0, 0, 0]));
}

#[test]
fn a_stream_of_responses_that_crosses_a_request_is_not_measured() {
    let mut service = Service::new();
    let [client, server] = service.next;
    service.ask(0, GET).answer(5, &status(200)).answer(6, &[0; 500]);
    let [_, sent] = service.next;
    let asked = client.wrapping_add(GET.len() as u32);
    // The client has received a part of the response only.
    service.observe(7 * MS, true, asked, server + 10, GET);
    service.observe(8 * MS, false, sent, asked.wrapping_add(GET.len() as u32), &[0; 500]);
    assert_eq!(service.ended(), (1, 5, 1, [0, 1, 0, 0, 0]));
}

#[test]
fn the_preface_of_http_2_ends_the_exchanges_however_it_is_cut() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for at in 1..preface.len() {
        let mut service = Service::new();
        service.ask(0, &preface[..at]).ask(1, &preface[at..]).answer(2, &[0; 30]).ask(3, &[0; 9]).answer(4, &[0; 9]);
        assert_eq!(service.ended(), (0, 0, 0, [0; 5]), "{at}");
    }
}

#[test]
fn connections_of_the_target_itself_have_no_exchanges() {
    let conversation = Conversation::new(tcp(1, 80)).client(GET).server(&status(200));
    assert!(conversation.names.exchanges().is_empty());
}

#[test]
fn the_next_connection_on_the_same_ports_begins_anew() {
    let mut service = Service::new();
    service.ask(0, GET).answer(5, &status(200));
    let flow = service.flow;
    service.names.finish_flow(&flow);
    // Its sequence numbers are lower.
    service.next = [u32::MAX - 1_000_000, 3];
    service.ask(10, GET).answer(13, &status(200));
    assert_eq!(service.ended(), (2, 5, 0, [0, 2, 0, 0, 0]));
}

#[test]
fn a_cut_sample_of_which_the_start_was_answered_begins_where_the_rest_does() {
    let mut service = Service::new();
    let [client, server] = service.next;
    service.ask(0, b"ask");
    let (sequence, acknowledgment) = (client, server + 4);
    // A segment with the old request and a new one, of which the client's end was cut off.
    let payload = b"askCONNECT a:1 HTTP/1.1\r\n";
    service.observe_cut(9 * MS, sequence, acknowledgment, payload, 900);
    service.next = [client.wrapping_add(900), server + 4];
    service.answer(10, &status(200)).ask(20, b"ping").answer(29, b"pong");
    assert_eq!(service.ended(), (1, 1, 1, [0, 1, 0, 0, 0]), "nothing of the tunnel");
}

#[test]
fn pipelined_requests_are_counted_each() {
    let statuses: Vec<u8> = [200, 503, 503, 503].into_iter().flat_map(status).collect();
    let mut service = Service::new();
    service.ask(0, &GET.repeat(4)).answer(50, &statuses);
    service.ask(60, GET).answer(65, &status(503)).ask(70, GET).answer(75, &status(503));
    assert_eq!(service.ended(), (3, 50, 3, [0, 1, 0, 0, 2]));
    // In two segments, wherever they are cut.
    for at in 1..2 * GET.len() {
        let two = GET.repeat(2);
        let mut service = Service::new();
        service.ask(0, &two[..at]).ask(1, &two[at..]).answer(50, &statuses);
        let expected = if at.abs_diff(GET.len() + 2) <= 1 { 0..=1 } else { 1..=1 };
        let (count, _, unmeasured, _) = service.ended();
        assert!(count == 1 && expected.contains(&unmeasured), "{at}: {unmeasured}");
    }
    let mut service = Service::new();
    let batch = [b"POST / HTTP/1.1\r\nContent-Length: 40\r\n\r\n", GET].concat();
    service.ask(0, &batch).answer(50, &status(200));
    assert_eq!(service.ended(), (1, 50, 0, [0, 1, 0, 0, 0]), "a body is no request");
}

#[test]
fn each_port_has_its_own_exchanges() {
    let mut service = Service::new();
    for port in 1..=1_000 {
        service.flow.local.port = port;
        service.next = [u32::MAX - 100, 7_000];
        service.ask(0, GET).answer(50, &status(200));
    }
    service.names.finish();
    let found = service.names.exchanges();
    assert!(found.len() == 1_000 && found.values().all(|one| one.times.count() == 1 && one.statuses[1] == 1));
}

/// Cuts of a message, as parts of its length.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..400_usize, 0..6)
}

/// The pieces of a message: offset and bytes.
fn pieces(message: &[u8], cuts: &[usize]) -> Vec<(usize, Vec<u8>)> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % message.len()).chain([0, message.len()]).collect();
    ends.sort_unstable();
    ends.dedup();
    ends.windows(2).map(|pair| (pair[0], message[pair[0]..pair[1]].to_vec())).collect()
}

proptest! {
    /// The last byte of each request arrives at its time, in whatever piece; pieces before it may
    /// change their order and come again.
    #[test]
    fn any_segmentation_gives_the_same_times(
        exchanges in prop::collection::vec((cuts(), cuts(), any::<u8>(), 1..50_u64), 1..6),
    ) {
        let mut service = Service::new();
        let (mut now_ms, mut longest) = (0, 0);
        for (request_cuts, response_cuts, order, delay_ms) in &exchanges {
            let [client, server] = service.next;
            let request = [GET, &[b'q'; 300]].concat();
            let response = [&status(200)[..], &[b'r'; 300]].concat();
            let mut asked = pieces(&request, request_cuts);
            let last = asked.len() - 1;
            asked.rotate_left(usize::from(*order) % (last + 1));
            let again = asked[0].clone();
            for (at, (offset, bytes)) in asked.iter().enumerate() {
                let time_ns = if at == last { now_ms * MS + 10 * MS } else { now_ms * MS };
                service.observe(time_ns, true, client.wrapping_add(*offset as u32), server, bytes);
            }
            service.observe(now_ms * MS + 11 * MS, true, client.wrapping_add(again.0 as u32), server, &again.1);
            service.next[0] = client.wrapping_add(request.len() as u32);
            for (at, (offset, bytes)) in pieces(&response, response_cuts).iter().enumerate() {
                let time_ns = (now_ms + 10 + delay_ms + at as u64) * MS;
                let sequence = server.wrapping_add(*offset as u32);
                service.observe(time_ns, false, sequence, service.next[0], bytes);
                service.observe(time_ns + MS, false, sequence, service.next[0], bytes);
            }
            service.next[1] = server.wrapping_add(response.len() as u32);
            (now_ms, longest) = (now_ms + 1_000, longest.max(*delay_ms));
        }
        let count = exchanges.len() as u64;
        prop_assert_eq!(service.ended(), (count, longest, 0, [0, count, 0, 0, 0]));
        let sum_ms: u64 = exchanges.iter().map(|(.., delay_ms)| delay_ms).sum();
        prop_assert_eq!(service.names.exchanges()[&PORT].times.sum(), sum_ms * MS);
    }

    /// Whatever arrives, no time is longer than the connection, and no exchange is counted twice.
    #[test]
    fn any_segments_are_taken(
        segments in prop::collection::vec((any::<bool>(), 0..600_u32, 0..600_u32, 1..100_usize), 0..60),
    ) {
        let mut service = Service::new();
        let requests = segments.iter().filter(|(is_client, ..)| *is_client).count() as u64;
        for (at, (is_client, sequence, acknowledgment, length)) in (0..).zip(&segments) {
            service.observe(at * MS, *is_client, *sequence, *acknowledgment, &vec![b'x'; *length]);
        }
        let (count, longest, unmeasured, _) = service.ended();
        prop_assert!(count + unmeasured <= requests && longest <= segments.len() as u64);
    }
}
