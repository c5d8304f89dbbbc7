//! Many runs at the same time, each of which has to work and to leave nothing.

use std::time::Duration;

use super::Storm;
use crate::run::StartOptions;

/// A run among a hundred on a busy machine.
const RUN_TIMEOUT: Duration = Duration::from_secs(600);

/// Starts this many runs at once and waits for the end of all.
pub fn run_in_parallel(storm: &Storm<'_>, count: usize) {
    let command = ["curl", "-sS", "http://app.example/"];
    let start = |_| {
        let options = StartOptions { limit: RUN_TIMEOUT, ..StartOptions::default() };
        storm.net.host.start_with(options, &["-q"], &command)
    };
    let running: Vec<_> = (0..count).map(start).collect();
    for run in running {
        let run = run.finish();
        assert_eq!(run.assert_ok().stdout, "hello\n", "{run}");
    }
    storm.check(&format!("{count} runs in parallel"));
}
