//! Exchanges in TLS: nothing of its own is measured.

use super::*;
use crate::wire::testing::HelloBuilder;

/// A record of TLS.
fn record(kind: u8, length: u8) -> Vec<u8> {
    [&[kind, 3, 3, 0, length][..], &vec![0; length.into()]].concat()
}

fn data(length: u8) -> Vec<u8> {
    record(0x17, length)
}

/// The client's last message of a handshake of TLS 1.3, and nothing else.
fn finished() -> Vec<u8> {
    [record(0x14, 1), data(53)].concat()
}

/// A connection after the server's part of the handshake.
fn greeted(alpn: &[&str]) -> Service {
    let hello = HelloBuilder::named("app.example").alpn(alpn).records(1_000);
    let mut service = Service::new();
    service.ask(0, &hello).answer(2, &record(0x16, 90));
    service
}

/// Two requests that take 50 ms each, the first one sent already: number of times, their mean and
/// the largest in milliseconds, and number of exchanges without a time.
fn measured(service: &mut Service) -> (u64, u64, u64, u64) {
    service.answer(90, &data(99)).ask(100, &data(70)).answer(150, &data(99)).ask(151, &data(19));
    service.names.finish();
    let found = service.names.exchanges().get(&PORT).cloned().unwrap_or_default();
    let mean = found.times.sum() / found.times.count().max(1) / MS;
    (found.times.count(), mean, found.times.max() / MS, found.unmeasured)
}

const ONE: (u64, u64, u64, u64) = (1, 50, 50, 0);

#[test]
fn http_2_in_tls_is_not_measured() {
    let run = |alpn: &[&str]| {
        let mut service = greeted(alpn);
        service.ask(3, &finished()).answer(4, &data(80)).ask(40, &data(70));
        measured(&mut service)
    };
    assert_eq!((run(&["http/1.1"]), run(&[])), (ONE, ONE));
    assert_eq!(run(&["h2", "http/1.1"]), (0, 0, 0, 0));
}

/// Each ticket may be a segment, and the first request may arrive before, between and after them.
#[test]
fn a_ticket_is_no_response_wherever_the_first_request_arrives() {
    for tickets in 0..5 {
        for place in 0..=tickets {
            for acknowledged in 0..=place {
                let mut service = greeted(&["http/1.1"]);
                service.ask(3, &finished());
                let before = service.next[1];
                for ticket in 0..tickets {
                    if ticket == place {
                        ask_acknowledging(&mut service, before + acknowledged * 85);
                    }
                    service.answer(3, &data(80));
                }
                if place == tickets {
                    ask_acknowledging(&mut service, before + acknowledged * 85);
                }
                let (count, mean, longest, _) = measured(&mut service);
                let case = format!("{tickets} tickets, request at {place}, acknowledges {acknowledged}");
                let expected = u64::from(place > 0);
                assert_eq!((count, mean, longest), (expected, 50 * expected, 50 * expected), "{case}");
            }
        }
    }
}

fn ask_acknowledging(service: &mut Service, acknowledgment: u32) {
    let sequence = service.next[0];
    service.observe(3 * MS, true, sequence, acknowledgment, &data(70));
    service.next[0] = sequence.wrapping_add(75);
}

/// Parts of a request arrive between the tickets, and the client has received all before.
#[test]
fn parts_of_a_request_between_tickets_measure_nothing() {
    for tickets in 1..5_u64 {
        let mut service = greeted(&["http/1.1"]);
        service.ask(3, &[finished(), data(70)].concat());
        for _ in 0..tickets {
            service.answer(3, &data(80)).ask(3, &data(70));
        }
        let (count, mean, longest, _) = measured(&mut service);
        assert!(count == 0 || (mean >= 50 && longest <= 87), "{tickets}: {count} {mean} {longest}");
    }
}

/// A lone ChangeCipherSpec and early data precede the client's last message.
#[test]
fn what_precedes_the_finished_message_is_no_exchange() {
    let mut service = greeted(&["http/1.1"]);
    service.ask(3, &record(0x14, 1)).answer(3, &data(200)).ask(3, &data(53));
    service.answer(3, &data(80)).ask(3, &data(70)).answer(3, &data(80));
    service.ask(10, &data(70)).answer(60, &data(99));
    assert_eq!(measured(&mut service).1, 50);
    let mut service = greeted(&["http/1.1"]);
    service.ask(3, &data(70)).answer(3, &data(200)).ask(3, &[data(20), data(53)].concat());
    service.answer(3, &data(80)).ask(3, &data(70)).answer(3, &data(80));
    service.ask(10, &data(70)).answer(60, &data(99));
    assert_eq!(measured(&mut service).1, 50);
}

#[test]
fn the_handshake_of_tls_1_2_is_readable() {
    let mut service = greeted(&["http/1.1"]);
    service.ask(3, &[record(0x16, 70), record(0x14, 1), record(0x16, 40)].concat());
    service.answer(3, &[record(0x16, 180), record(0x14, 1), record(0x16, 40)].concat());
    service.ask(40, &data(70));
    assert_eq!(measured(&mut service), (2, 50, 50, 0), "both requests");
    // The server's messages in segments, and the first request among them.
    let mut service = greeted(&["http/1.1"]);
    service.ask(3, &[record(0x16, 70), record(0x14, 1), record(0x16, 40)].concat());
    service.answer(3, &record(0x16, 180)).ask(3, &data(70)).answer(3, &[record(0x14, 1), record(0x16, 40)].concat());
    assert_eq!(measured(&mut service), (1, 50, 50, 1));
}

#[test]
fn an_alert_is_no_response() {
    let mut service = greeted(&["http/1.1"]);
    service.ask(3, &finished()).answer(3, &data(80)).ask(4, &data(70)).answer(5, &data(99));
    service.ask(6, &data(70)).answer(7, &data(19)).ask(8, &data(19)).answer(9, &data(19));
    assert_eq!(service.ended(), (0, 0, 1, [0; 5]));
}
