//! The time of one drain: nanoseconds per flow, and its longest part, during which netwatch does
//! nothing else.

use std::time::Instant;

use netwatch::flow::{self, FlowTable};
use netwatch::meter::{DrainProgress, KernelMeterConfig, sys};

use super::super::EngineOptions;
use super::super::cpu;
use super::super::frames::{self, BenchFrame};
use super::super::reference::Driver;
use super::super::stats::{at_most, median};
use super::super::subject::BenchSubject;
use crate::Result;

/// The default table, full.
const FULL: u64 = 131_072;
const MILLION: u64 = 1 << 20;
/// The goal for the longest part of a drain.
const MAX_PAUSE_MS: f64 = 10.0;
/// Active flows in the goal for the CPU time of a run.
const ACTIVE: f64 = 100_000.0;
/// Rounds with a table for a million flows, which takes long to fill: enough for a median.
const ROUNDS_OF_A_MILLION: usize = 3;

/// The default table full, with a million flows passing through it, and a table for a million.
pub fn measure(options: &EngineOptions) -> Result {
    let full = Drained::measure(options, KernelMeterConfig::default(), FULL, options.rounds)?;
    println!("  128 K flows, all changed: {:.1} ns per flow", full.changed_ns);
    full.print_rest();
    let share = full.table_ns * ACTIVE / 1e9 * 100.0;
    println!("      100 000 active flows once a second would take {share:.1} % of a core");
    let seen = Drained::measure(options, KernelMeterConfig::default(), MILLION, ROUNDS_OF_A_MILLION)?;
    println!("  1 M flows seen by a table of {FULL}: {:.1} ns for each of {} read", seen.changed_ns, seen.flows);
    seen.print_rest();
    let config = KernelMeterConfig { max_flows: MILLION as u32, ..KernelMeterConfig::default() };
    let large = Drained::measure(options, config, MILLION, ROUNDS_OF_A_MILLION)?;
    println!("  1 M flows, --max-flows {MILLION}, all changed: {:.1} ns per flow", large.changed_ns);
    large.print_rest();
    Ok(())
}

/// The results of one table.
struct Drained {
    flows: usize,
    /// Median, CPU time per flow, all flows having changed.
    changed_ns: f64,
    /// The same with the work of the flow table in user space.
    table_ns: f64,
    /// The same with nothing changed.
    unchanged_ns: f64,
    /// The longest part of all drains.
    pause: Pause,
}

impl Drained {
    fn measure(options: &EngineOptions, config: KernelMeterConfig, flows: u64, rounds: usize) -> Result<Self> {
        let mut bench = CostBench::new(options, &config, flows)?;
        let mut table = FlowTable::new(flow::DEFAULT_MAX_FLOWS);
        let (mut changed, mut tabled, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
        let mut most = 0;
        for _ in 0..rounds {
            bench.pass()?;
            let mut seen = 0_usize;
            let took = bench.drain(&mut |_| seen += 1)?;
            most = most.max(seen);
            changed.push(took / most as f64);
            unchanged.push(bench.drain(&mut drop)? / most as f64);
            bench.pass()?;
            tabled.push(bench.drain(&mut |increment| drop(table.apply(increment)))? / most as f64);
        }
        let [changed_ns, table_ns, unchanged_ns] = [changed, tabled, unchanged].map(|values| median(&values));
        Ok(Self { flows: most, changed_ns, table_ns, unchanged_ns, pause: bench.longest })
    }

    fn print_rest(&self) {
        let Self { table_ns, unchanged_ns, pause: Pause { wall_ms, cpu_ms }, .. } = self;
        println!("      and into the table of flows {table_ns:.1} ns; nothing changed {unchanged_ns:.1} ns");
        let wall = at_most(*wall_ms, MAX_PAUSE_MS, "ms");
        println!("      longest pause {wall}, {cpu_ms:.1} ms of it on the CPU");
    }
}

/// The longest part of a drain.
#[derive(Debug, Default, Clone, Copy)]
struct Pause {
    /// Wall-clock time, including other processes.
    wall_ms: f64,
    /// CPU time of the thread.
    cpu_ms: f64,
}

/// A loaded classifier and packets for it.
struct CostBench {
    subject: BenchSubject,
    driver: Driver,
    frame: BenchFrame,
    flows: u64,
    longest: Pause,
}

impl CostBench {
    fn new(options: &EngineOptions, config: &KernelMeterConfig, flows: u64) -> Result<Self> {
        let subject = BenchSubject::netwatch("netwatch", config)?;
        let driver = Driver::new(&options.reference.0, subject.program())?;
        let frame = frames::tcp4();
        driver.steer(&frame, 0, flows)?;
        let mut bench = Self { subject, driver, frame, flows, longest: Pause::default() };
        bench.pass()?;
        Ok(bench)
    }

    /// One packet of every flow.
    fn pass(&mut self) -> Result {
        let run = sys::test_run(self.driver.program(), &self.frame.bytes, &self.frame.context, self.flows as u32);
        run.map_err(|error| self.subject.failed(&error))?;
        self.subject.poll()?;
        Ok(())
    }

    /// CPU time of one drain, nanoseconds.
    fn drain(&mut self, sink: &mut impl FnMut(flow::Increment)) -> Result<f64> {
        let Some(meter) = self.subject.meter() else { return Ok(f64::NAN) };
        let (mut progress, mut total, mut is_more) = (DrainProgress::default(), 0.0, true);
        while is_more {
            let (started, before) = (Instant::now(), cpu::time()?);
            is_more = meter.drain_part(&mut progress, sink).map_err(|error| error.to_string())?;
            let took = cpu::time()? - before;
            let pause = Pause { wall_ms: started.elapsed().as_secs_f64() * 1e3, cpu_ms: took.as_secs_f64() * 1e3 };
            if pause.wall_ms > self.longest.wall_ms {
                self.longest = pause;
            }
            total += took.as_secs_f64() * 1e9;
        }
        Ok(total)
    }
}
