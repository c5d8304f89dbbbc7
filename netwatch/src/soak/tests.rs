//! Planted defects are found, and healthy runs give no alarm.

use super::*;
use crate::flow::{Counters, PerDirection};
use crate::report::Interval;

const START_NS: u64 = 1_767_225_600 * SECOND;

/// A made-up soak of two hours. Each field is what a run has per second.
struct Scene {
    random: fastrand::Rng,
    soak: Soak,
    series: Series,
    /// Short connections per second.
    rate: f64,
    /// Connections of a pool, which stay open.
    pool: u64,
    rtt_ns: f64,
    /// Part of packets that are retransmitted.
    retransmits: f64,
    /// Failed attempts per second.
    failures: f64,
    second: u64,
}

const SECONDS: u64 = 7_200;

impl Scene {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            rate: 1.0 + random.f64() * 20.0,
            pool: random.u64(0..200),
            rtt_ns: 100_000.0 + random.f64() * 50_000_000.0,
            retransmits: random.f64() * 0.01,
            failures: random.f64() * 0.2,
            soak: Soak::default(),
            series: Series::default(),
            second: 0,
            random,
        }
    }

    /// About so many, with the noise of independent events.
    fn about(&mut self, mean: f64) -> u64 {
        let (radius, angle) =
            ((-2.0 * (1.0 - self.random.f64()).ln()).sqrt(), std::f64::consts::TAU * self.random.f64());
        let value = mean + mean.sqrt() * radius * angle.cos();
        let rest = f64::from(u8::from(self.random.f64() < value.max(0.0).fract()));
        (value.max(0.0).floor() + rest) as u64
    }

    /// A second in which the load is this multiple of the usual one.
    fn second(&mut self, load: f64) -> Interval {
        let begun = self.about(self.rate * load);
        let packets = begun * 20 + self.about(50.0 * load);
        let failed = self.about(self.failures);
        let retransmitted = self.about(packets as f64 * self.retransmits);
        let counters = Counters { skbs: packets, packets, bytes: packets * 500, wire_bytes: packets * 500 };
        let mut interval = Interval {
            start_ns: START_NS + self.second * SECOND,
            length_ns: SECOND,
            totals: PerDirection { egress: counters, ingress: counters },
            opened: begun,
            connections: begun,
            closed: begun,
            open: self.pool + self.about(self.rate * load * 0.3),
            failed,
            tcp_packets: 2 * packets,
            retransmitted,
            ..Interval::default()
        };
        for _ in 0..8 {
            let noise = 0.8 + 0.4 * self.random.f64() + f64::from(u8::from(self.random.f64() < 0.02)) * 3.0;
            interval.connect.add((self.rtt_ns * noise) as u64, 1);
            interval.round_trip.add((self.rtt_ns * noise * 0.9) as u64, 1);
            interval.dns.add(2_000_000, 1);
        }
        interval
    }

    fn push(&mut self, interval: Interval) {
        self.series.push(interval);
        self.second += 1;
        if self.second.is_multiple_of(60) {
            self.soak.observe(&self.series, START_NS, self.now_ns());
        }
    }

    fn now_ns(&self) -> u64 {
        START_NS + self.second * SECOND
    }

    /// Runs to the end; `change` changes the second from its number, from 0 to 1.
    fn run(mut self, load: impl Fn(f64) -> f64, change: impl Fn(&mut Self, &mut Interval, f64)) -> Vec<SoakFinding> {
        while self.second < SECONDS {
            let part = self.second as f64 / SECONDS as f64;
            let mut interval = self.second(load(part));
            change(&mut self, &mut interval, part);
            self.push(interval);
        }
        self.soak.observe(&self.series, START_NS, self.now_ns());
        self.soak.findings(&self.series, (START_NS, self.now_ns()), std::iter::empty())
    }
}

fn unchanged(_: &mut Scene, _: &mut Interval, _: f64) {}

fn alarms(findings: &[SoakFinding]) -> Vec<&SoakFinding> {
    findings.iter().filter(|finding| finding.is_alarm()).collect()
}

#[test]
fn twenty_healthy_soaks_give_no_alarm() {
    use std::f64::consts::TAU;
    let loads: [fn(f64) -> f64; 5] = [
        |_| 1.0,
        // A day, of which the run is a part.
        |part| 1.0 + 0.8 * (part * TAU).sin(),
        |part| 0.5 + 1.5 * part,
        // A batch now and then.
        |part| if (part * 24.0).fract() < 0.02 { 15.0 } else { 1.0 },
        |part| if (part * 3.0).fract() < 0.5 { 1.0 } else { 0.1 },
    ];
    for seed in 0..20 {
        let load = loads[seed as usize % loads.len()];
        let findings = Scene::new(seed).run(load, unchanged);
        assert!(alarms(&findings).is_empty(), "seed {seed}: {findings:?}");
    }
}

#[test]
fn a_leak_is_found_and_more_load_is_none() {
    for seed in 0..5 {
        let leak = |_: &mut Scene, interval: &mut Interval, part: f64| interval.open += (part * 100.0) as u64;
        let findings = Scene { pool: 50, ..Scene::new(seed) }.run(|_| 1.0, leak);
        let [SoakFinding::Leak(found)] = alarms(&findings)[..] else { panic!("seed {seed}: {findings:?}") };
        assert!(found.after - found.before > 40.0 && found.chance < 0.001, "{found:?}");
    }
}

#[test]
fn a_rising_round_trip_is_found() {
    for seed in 0..5 {
        let findings = Scene { rtt_ns: 10e6, ..Scene::new(seed) }
            .run(|_| 1.0, |scene, _, part| scene.rtt_ns = 10e6 * (1.0 + 1.5 * part));
        let found: Vec<_> = alarms(&findings).into_iter().cloned().collect();
        let quantities: Vec<_> = found
            .iter()
            .filter_map(|one| if let SoakFinding::Rising(quantity, _) = one { Some(*quantity) } else { None })
            .collect();
        assert_eq!(quantities, [RisingQuantity::RoundTrip, RisingQuantity::Connect], "seed {seed}: {findings:?}");
        assert_eq!(found.len(), 2, "{findings:?}");
    }
}

#[test]
fn rising_retransmits_and_failures_are_found() {
    for seed in 0..5 {
        let scene = Scene { rate: 10.0, retransmits: 0.005, failures: 0.1, ..Scene::new(seed) };
        let findings = scene.run(
            |_| 1.0,
            |scene, _, part| {
                scene.retransmits = 0.005 + 0.03 * part;
                scene.failures = 0.1 + part;
            },
        );
        let [SoakFinding::Rising(first, _), SoakFinding::Rising(second, _)] = alarms(&findings)[..] else {
            panic!("seed {seed}: {findings:?}")
        };
        assert_eq!((*first, *second), (RisingQuantity::Retransmits, RisingQuantity::Failed));
    }
}

#[test]
fn a_reconnect_storm_is_found_when_connections_fall_and_when_they_are_refused() {
    for (seed, is_refused) in (0..6).map(|seed| (seed, seed % 2 == 0)) {
        let storm = move |scene: &mut Scene, interval: &mut Interval, _: f64| match scene.second {
            4_000..4_003 if !is_refused => interval.open = 3,
            4_003..4_005 if !is_refused => interval.connections += 150,
            4_000..4_010 if is_refused => interval.failed += 80,
            _ => {}
        };
        let findings = Scene { pool: 300, rate: 0.5, ..Scene::new(seed) }.run(|_| 1.0, storm);
        let [SoakFinding::Storm(found)] = alarms(&findings)[..] else { panic!("seed {seed}: {findings:?}") };
        let after = (found.start_ns - START_NS) / SECOND;
        assert!((3_960..=4_010).contains(&after) && found.attempts >= 300, "{found:?}");
    }
}

/// Whatever second of a slot it begins in, and also in the last seconds of a run. The part of it in
/// a slot is no storm if it has fewer than 50 attempts.
#[test]
fn a_storm_is_found_once_wherever_it_begins() {
    const END: u64 = 2_000;
    for second in (1_000..1_060).step_by(7).chain([END - 20, END - 10]) {
        let mut scene = Scene { rate: 0.2, failures: 0.0, pool: 5, ..Scene::new(second) };
        while scene.second < END {
            let mut interval = scene.second(1.0);
            interval.failed = if (second..second + 5).contains(&scene.second) { 40 } else { 0 };
            scene.push(interval);
        }
        scene.soak.observe_end(&scene.series, START_NS, scene.now_ns());
        let findings = scene.soak.findings(&scene.series, (START_NS, scene.now_ns()), std::iter::empty());
        let [SoakFinding::Storm(found)] = alarms(&findings)[..] else { panic!("second {second}: {findings:?}") };
        assert!((160..=200).contains(&found.failed), "second {second}: {found:?}");
    }
}

#[test]
fn dns_failures_idle_periods_and_late_endpoints_are_found() {
    let mut scene = Scene::new(1);
    while scene.second < SECONDS {
        let mut interval = scene.second(1.0);
        interval.dns_failed = u64::from(scene.second.is_multiple_of(2));
        if (3_000..3_300).contains(&scene.second) {
            interval =
                Interval { open: interval.open, start_ns: interval.start_ns, length_ns: SECOND, ..Interval::default() };
        }
        scene.push(interval);
    }
    scene.soak.observe(&scene.series, START_NS, scene.now_ns());
    let key = |port| EndpointKey {
        remote: crate::flow::Remote::Address([198, 51, 100, 1].into()),
        protocol: crate::flow::Protocol::TCP,
        port,
        direction: crate::flow::Direction::Egress,
        fragment: false,
    };
    let used = [(key(80), START_NS + SECOND), (key(443), START_NS + 5_000 * SECOND)];
    let findings = scene.soak.findings(&scene.series, (START_NS, scene.now_ns()), used.into_iter());
    let [
        SoakFinding::DnsFailures { failed, .. },
        SoakFinding::LateEndpoint { key: late, after_ns },
        SoakFinding::Idle(idle),
    ] = &findings[..]
    else {
        panic!("{findings:?}")
    };
    assert_eq!((*failed, late.port, *after_ns), (3_450, 443, 5_000 * SECOND));
    assert_eq!((idle.start_ns, idle.length_ns), (START_NS + 3_000 * SECOND, 300 * SECOND));
}

#[test]
fn a_short_run_has_no_other_finding_than_that_it_is_short() {
    let findings = Soak::default().findings(&Series::default(), (START_NS, START_NS + 5 * SECOND), std::iter::empty());
    assert_eq!(findings, [SoakFinding::TooShort { length_ns: 5 * SECOND }]);
    assert!(!findings[0].is_alarm());
}
