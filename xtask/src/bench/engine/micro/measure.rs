//! One case, all programs, several rounds.

use std::os::fd::BorrowedFd;

use netwatch::meter::sys;

use super::super::frames::Frame;
use super::super::reference::Driver;
use super::super::subject::{Counted, Subject};
use super::super::{Options, cpu};
use super::cases::Case;
use crate::Result;

/// What came out for one program.
pub struct Measured {
    /// The program's.
    pub name: &'static str,
    /// ns per packet, one value a round.
    pub ns: Vec<f64>,
    /// How many packets it was given, warm-up included.
    pub runs: u64,
    /// How many it counted, if it is netwatch.
    pub counted: Option<Counted>,
}

impl Measured {
    /// Packets that it was given and has not counted; below zero if it counted some twice.
    pub fn missing(&self) -> i64 {
        self.counted.map_or(0, |counted| self.runs as i64 - counted.packets as i64)
    }
}

/// A program and how packets get into it.
struct Bench {
    subject: Subject,
    driver: Option<Driver>,
    ns: Vec<f64>,
    runs: u64,
}

/// Measures all programs. The order changes from round to round, so that none always follows the
/// same one.
pub fn case(case: &Case, subjects: Vec<Subject>, options: &Options) -> Result<Vec<Measured>> {
    let mut benches = subjects.into_iter().map(|one| Bench::new(one, case, options)).collect::<Result<Vec<_>>>()?;
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
    benches.into_iter().map(Bench::finish).collect()
}

impl Bench {
    fn new(subject: Subject, case: &Case, options: &Options) -> Result<Self> {
        let mut runs = 0;
        if let Some(before) = &case.before {
            subject.run(before)?;
            runs += 1;
        }
        let driver = case.flows.map(|flows| driver(&subject, case, flows, options)).transpose()?;
        Ok(Self { subject, driver, ns: Vec::new(), runs })
    }

    /// netwatch's table grows by doubling, on a thread of its own, after a look at it has shown the
    /// need.
    fn warm_up(&mut self, case: &Case) -> Result {
        const DOUBLINGS: usize = 8;
        let is_large = case.flows.is_some_and(|flows| flows > 4096) && self.subject.probe().is_some();
        for _ in 0..if is_large { DOUBLINGS } else { 1 } {
            self.run(case)?;
            std::thread::sleep(std::time::Duration::from_millis(if is_large { 100 } else { 0 }));
            self.subject.poll()?;
        }
        Ok(())
    }

    /// ns per packet of one round.
    fn run(&mut self, case: &Case) -> Result<f64> {
        let program = self.driver.as_ref().map_or_else(|| self.subject.program(), Driver::program);
        let ns = time(program, &case.frame, case.runs() as u32)
            .map_err(|error| format!("cannot run {}: {error}", self.subject.name))?;
        self.runs += case.runs();
        self.subject.poll()?;
        Ok(ns)
    }

    fn finish(mut self) -> Result<Measured> {
        let counted = self.subject.counted()?;
        Ok(Measured { name: self.subject.name, ns: self.ns, runs: self.runs, counted })
    }
}

fn driver(subject: &Subject, case: &Case, flows: u64, options: &Options) -> Result<Driver> {
    let driver = Driver::new(&options.reference.0, subject.program())?;
    driver.steer(&case.frame, 0, flows)?;
    Ok(driver)
}

/// ns per run, by the thread's own clock: it stands still while other processes have the CPU.
fn time(program: BorrowedFd<'_>, frame: &Frame, runs: u32) -> Result<f64> {
    let before = cpu::time()?;
    sys::test_run(program, &frame.bytes, &frame.context, runs).map_err(|error| error.to_string())?;
    let took = cpu::time()? - before;
    Ok(took.as_secs_f64() * 1e9 / f64::from(runs))
}
