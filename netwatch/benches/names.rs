//! The cost of a name: of a ClientHello, and of a DNS query with its response. Run with `cargo
//! bench --package netwatch --bench names`.

#[path = "../tests/sample/mod.rs"]
mod sample;

use criterion::{BatchSize, Criterion};
use netwatch::flow::{Direction, FlowKey};
use netwatch::name::{Hosts, NameLimits, NameSample, Names, Segment};
use sample::names::{self, client_hello, dns, packet};
use sample::{key, v4};

/// Size of a key share of X25519MLKEM768, bytes (the draft of post-quantum key agreement for TLS
/// 1.3). It accounts for most of the size of present ClientHellos.
const POST_QUANTUM: usize = 1216;

fn measure(criterion: &mut Criterion) {
    let hello = client_hello(Some("app.example"), POST_QUANTUM);
    let (query, response) = lookup();
    let tcp = Some(Segment { sequence: 1, flags: 0x18, acknowledgment: None });
    let (web, resolver) = (key(6, 40_000, v4(10), 443), key(17, 50_000, v4(53), 53));
    criterion.bench_function(&format!("ClientHello of {} bytes in one segment", hello.len()), |bencher| {
        let sample = NameSample { tcp, ..packet(web, Direction::Egress, 0, &hello) };
        bencher.iter_batched_ref(new, |names| names.observe(&sample), BatchSize::SmallInput);
    });
    criterion.bench_function("the same in two segments", |bencher| {
        let (first, second) = hello.split_at(hello.len() / 2);
        let later = Some(Segment { sequence: 1 + first.len() as u32, flags: 0x18, acknowledgment: None });
        let samples = [(first, tcp), (second, later)]
            .map(|(bytes, tcp)| NameSample { tcp, ..packet(web, Direction::Egress, 0, bytes) });
        bencher.iter_batched_ref(new, |names| samples.iter().for_each(|one| names.observe(one)), BatchSize::SmallInput);
    });
    criterion.bench_function("DNS query and response, with an alias", |bencher| {
        let samples = exchange(resolver, &query, &response);
        bencher.iter_batched_ref(new, |names| samples.iter().for_each(|one| names.observe(one)), BatchSize::SmallInput);
    });
}

fn new() -> Names {
    Names::new(NameLimits::default(), Hosts::default())
}

fn lookup() -> (Vec<u8>, Vec<u8>) {
    let records = [names::alias("app.example", "edge.cdn.example"), names::address("edge.cdn.example", v4(10))];
    (dns(1, 0x0100, "app.example", names::A, &[]), dns(1, 0x8180, "app.example", names::A, &records))
}

fn exchange<'a>(flow: FlowKey, query: &'a [u8], response: &'a [u8]) -> [NameSample<'a>; 2] {
    [packet(flow, Direction::Egress, 0, query), packet(flow, Direction::Ingress, 400_000, response)]
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion);
    criterion.final_summary();
}
