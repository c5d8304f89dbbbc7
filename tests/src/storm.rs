//! A storm: many runs whose processes are killed, or whose system calls fail, at random moments,
//! while a neighbor probes whether the host forwards for others. Afterwards nothing may be left of
//! them. `cargo xtask storm` is the long form; the tests run a short one. A failure panics and
//! names the seed and the repetitions.

mod calls;
mod kills;
mod latency;
mod parallel;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

pub use calls::fail_calls;
pub use kills::kill_runs;
pub use latency::{Latencies, dns_latencies};
pub use parallel::run_in_parallel;

use crate::internet::TestInternet;
use crate::probes::NeighborProbes;
use crate::random::Random;
use crate::state::HostSnapshot;

/// Repetitions between two checks of the host.
const BATCH: usize = 24;
/// Repetitions at the same time.
const WIDTH: usize = 3;

/// A host, and what a storm does to it.
#[derive(Debug)]
pub struct Storm<'a> {
    net: &'a TestInternet,
    probes: NeighborProbes<'a>,
    before: HostSnapshot,
    seed: u64,
}

impl<'a> Storm<'a> {
    /// A storm on this host, with these random numbers.
    pub fn new(net: &'a TestInternet, seed: u64) -> Self {
        let probes = NeighborProbes::start(net);
        // The first run leaves the directory of all runs.
        net.host.run(&["-q"], &["true"]).assert_ok();
        Self { net, probes, before: net.host.state(), seed }
    }

    /// Number of probes of the neighbor so far, of both families.
    pub fn probes(&self) -> u64 {
        self.probes.sent().iter().sum()
    }

    /// Calls `repetition` this often, several at the same time, and checks the host after each
    /// batch.
    fn repeat(&self, what: &str, count: usize, repetition: impl Fn(&TestInternet, Random) + Sync) {
        for first in (0..count).step_by(BATCH) {
            let end = (first + BATCH).min(count);
            let next = AtomicUsize::new(first);
            let worker = || {
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < end) {
                    repetition(self.net, Random::of_repetition(self.seed, number));
                }
            };
            thread::scope(|scope| (0..WIDTH).for_each(|_| drop(scope.spawn(worker))));
            self.check(&format!("{what} {first} to {end} with seed {}", self.seed));
        }
    }

    /// Undoes what killed runs could not undo, and checks that nothing is left, and that the host
    /// has never forwarded a probe.
    fn check(&self, after: &str) {
        self.net.host.netwatch(&["clean"]).assert_ok();
        if let Err(difference) = crate::eventually(|| self.before.compare(&self.net.host.state())) {
            panic!("{after}: netwatch left changes on the host:\n{difference}");
        }
        self.probes.assert_none_passed(after);
    }
}
