//! One case, all programs, several rounds.

use std::os::fd::BorrowedFd;

use netwatch::meter::sys;

use super::super::frames::BenchFrame;
use super::super::reference::Driver;
use super::super::subject::{BenchSubject, CountedPackets};
use super::super::{EngineOptions, cpu};
use super::cases::FrameCase;
use crate::Result;

/// The times of one program.
pub struct CaseTimes {
    /// Name of the program.
    pub name: &'static str,
    /// ns per packet, one value per round.
    pub ns: Vec<f64>,
    /// Packets sent to it, warm-up included.
    pub runs: u64,
    /// Counts, if the program is netwatch.
    pub counted: Option<CountedPackets>,
}

impl CaseTimes {
    /// Packets that were sent and not counted; negative if some were counted twice.
    pub fn missing(&self) -> i64 {
        self.counted.map_or(0, |counted| self.runs as i64 - counted.packets as i64)
    }
}

/// A program, and the driver that sends packets to it.
struct CaseBench {
    subject: BenchSubject,
    driver: Option<Driver>,
    ns: Vec<f64>,
    runs: u64,
}

/// Measures all programs. The order changes from round to round, so that none always follows the
/// same one.
pub fn case(case: &FrameCase, subjects: Vec<BenchSubject>, options: &EngineOptions) -> Result<Vec<CaseTimes>> {
    let mut benches = subjects.into_iter().map(|one| CaseBench::new(one, case, options)).collect::<Result<Vec<_>>>()?;
    for bench in &mut benches {
        bench.warm_up(case)?;
    }
    for round in 0..options.rounds {
        let count = benches.len();
        for place in 0..count {
            let bench = &mut benches[(round + place) % count];
            let ns = bench.run(case)?;
            bench.ns.push(ns);
        }
    }
    benches.into_iter().map(CaseBench::finish).collect()
}

impl CaseBench {
    fn new(subject: BenchSubject, case: &FrameCase, options: &EngineOptions) -> Result<Self> {
        let mut runs = 0;
        if let Some(before) = &case.before {
            subject.run(before)?;
            runs += 1;
        }
        let driver = case.flows.map(|flows| driver(&subject, case, flows, options)).transpose()?;
        Ok(Self { subject, driver, ns: Vec::new(), runs })
    }

    /// Runs the case until netwatch's table is large enough: another thread doubles it when a poll
    /// finds it nearly full.
    fn warm_up(&mut self, case: &FrameCase) -> Result {
        const DOUBLINGS: usize = 8;
        let is_large = case.flows.is_some_and(|flows| flows > 4096) && self.subject.meter().is_some();
        for _ in 0..if is_large { DOUBLINGS } else { 1 } {
            self.run(case)?;
            std::thread::sleep(std::time::Duration::from_millis(if is_large { 100 } else { 0 }));
            self.subject.poll()?;
        }
        Ok(())
    }

    /// ns per packet of one round.
    fn run(&mut self, case: &FrameCase) -> Result<f64> {
        let program = self.driver.as_ref().map_or_else(|| self.subject.program(), Driver::program);
        let ns = time(program, &case.frame, case.runs() as u32)
            .map_err(|error| format!("cannot run {}: {error}", self.subject.name))?;
        self.runs += case.runs();
        self.subject.poll()?;
        Ok(ns)
    }

    fn finish(mut self) -> Result<CaseTimes> {
        let counted = self.subject.counted()?;
        Ok(CaseTimes { name: self.subject.name, ns: self.ns, runs: self.runs, counted })
    }
}

fn driver(subject: &BenchSubject, case: &FrameCase, flows: u64, options: &EngineOptions) -> Result<Driver> {
    let driver = Driver::new(&options.reference.0, subject.program())?;
    driver.steer(&case.frame, 0, flows)?;
    Ok(driver)
}

/// ns of CPU time per run.
fn time(program: BorrowedFd<'_>, frame: &BenchFrame, runs: u32) -> Result<f64> {
    let before = cpu::time()?;
    sys::test_run(program, &frame.bytes, &frame.context, runs).map_err(|error| error.to_string())?;
    let took = cpu::time()? - before;
    Ok(took.as_secs_f64() * 1e9 / f64::from(runs))
}
