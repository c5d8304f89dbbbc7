//! Counts packets on one CPU while another one drains as fast as possible: none may be lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netwatch::flow::Traffic;
use netwatch::meter::{KernelMeter, KernelMeterConfig, sys};

use super::super::frames::{self, BenchFrame};
use super::super::reference::Driver;
use super::super::subject::BenchSubject;
use super::super::{EngineOptions, cpu};
use crate::Result;

/// Packets per system call.
const CHUNK: u64 = 400_000;
const CHUNKS: u64 = 50;
const FLOWS: u64 = 256;
/// 1000 drains per second.
const PERIOD: Duration = Duration::from_millis(1);

/// Sums over all drains.
#[derive(Default)]
struct RaceSums {
    packets: u64,
    flows: HashMap<Traffic, u64>,
    drains: u32,
}

/// Prints the number of missing packets, in total and by flow.
pub fn measure(options: &EngineOptions) -> Result {
    let mut subject = BenchSubject::netwatch("netwatch", &KernelMeterConfig::default())?;
    let driver = Driver::new(&options.reference.0, subject.program())?;
    let frame = frames::tcp4();
    driver.steer(&frame, 0, FLOWS)?;
    let Some(meter) = subject.meter() else { return Ok(()) };
    let started = Instant::now();
    let sums = count_and_drain(meter, &driver, &frame)?;
    let per_second = f64::from(sums.drains) / started.elapsed().as_secs_f64();
    let sent = CHUNK * CHUNKS;
    let wrong = sums.flows.values().filter(|packets| **packets != sent / FLOWS).count();
    let lost = sent as i64 - sums.packets as i64;
    let verdict = if lost == 0 && wrong == 0 && sums.flows.len() == FLOWS as usize { "met" } else { "missed" };
    println!(
        "  {sent} packets of {FLOWS} flows, {per_second:.0} drains a second: lost {lost}, {wrong} flows not exact (goal: 0: {verdict})"
    );
    Ok(())
}

fn count_and_drain(meter: &mut KernelMeter, driver: &Driver, frame: &BenchFrame) -> Result<RaceSums> {
    let cpus = cpu::available()?;
    let finished = AtomicBool::new(false);
    let mut sums = RaceSums::default();
    thread::scope(|scope| {
        let packets = scope.spawn(|| {
            let done = send(&cpus, driver, frame);
            finished.store(true, Ordering::Release);
            done
        });
        let mut next = Instant::now();
        while !finished.load(Ordering::Acquire) {
            next += PERIOD;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            sums.drain(meter)?;
        }
        packets.join().map_err(|_| "a thread panicked")??;
        sums.drain(meter)
    })?;
    Ok(sums)
}

fn send(cpus: &[usize], driver: &Driver, frame: &BenchFrame) -> Result {
    cpu::stay_on(cpus.last().map_or(&[][..], std::slice::from_ref))?;
    for _ in 0..CHUNKS {
        sys::test_run(driver.program(), &frame.bytes, &frame.context, CHUNK as u32)
            .map_err(|error| format!("cannot run the driver: {error}"))?;
    }
    Ok(())
}

impl RaceSums {
    fn drain(&mut self, meter: &mut KernelMeter) -> Result {
        meter.poll(&mut drop).map_err(|error| error.to_string())?;
        let drained = meter.drain(&mut |increment| {
            let packets = increment.counters.egress.skbs + increment.counters.ingress.skbs;
            self.packets += packets;
            *self.flows.entry(increment.traffic).or_default() += packets;
        });
        self.drains += 1;
        drained.map_err(|error| error.to_string())
    }
}
